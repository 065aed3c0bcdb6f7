"""A backup is as good as its restore: docs/operating.md, step by step, with PostgreSQL's own programs."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.audit import BadRow
from ledger.operations import Operation
from ledger.submission import Submission
from ledger.verify import verify
from server.engines.binaries import find_postgres
from server.engines.postgres import EmbeddedPostgres
from tests.conftest import SMALL
from tests.rigs.ledger_rig import SEAL_KEY, Rig

PROGRAMS = find_postgres().path.parent


@pytest.fixture
def new_cluster(own_folder: Path) -> Iterator[EmbeddedPostgres]:
    engine = EmbeddedPostgres(own_folder / "restored", options=SMALL)
    engine.start()
    yield engine
    engine.stop()


async def run(program: str, *words: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, [str(PROGRAMS / program), *words], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(rig: Rig, postgres_url: str) -> Rig:
    """Return the same installation on another database."""
    other = Rig(postgres_url, rig.redis_url)
    other.network_id, other.partner_id, other.terminal_id = rig.network_id, rig.partner_id, rig.terminal_id
    return other


async def lost_time_again(rig: Rig, before: list[Submission], lost: list[Submission]) -> None:
    """Prove that the restored installation is that of the backup, and takes what came after it once more and once."""
    async with rig.ledger() as ledger:
        # Redis remembers 300 points of card 0 and is not asked.
        assert await rig.available(ledger, 0) == 1_000
        for submission in before:
            again = await rig.insist(ledger, submission)
            assert (again.outcome, again.replayed) == (0, True)
        for submission in lost:
            assert (await rig.insist(ledger, submission)).replayed is False
            repeated = await rig.insist(ledger, submission)
            assert (repeated.outcome, repeated.replayed) == (0, True)
        assert await rig.available(ledger, 0) == 300
        assert await rig.available(ledger, 1) == 500
    verified = await rig.verify()
    assert (verified.balance, verified.entries) == (800, 4)


async def test_a_dump_is_restored_beside_a_redis_of_a_later_time(
    postgres_url: str, valkey_url: str, new_cluster: EmbeddedPostgres, tmp_path: Path
) -> None:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=2)
    dump = tmp_path / "tillwire.dump"
    async with rig.ledger() as ledger:
        before = [await rig.give(ledger, 0, 1_100), rig.submission(Operation.REDEEM, 0, points=100)]
        assert (await rig.ask(ledger, before[1])).outcome == 0
        # The server runs on while the dump is made.
        await run("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={postgres_url}")
        lost = [
            rig.submission(Operation.REDEEM, 0, points=700, amount=700, currency="EUR"),
            rig.submission(Operation.EARN, 1, amount=10_000),
        ]
        for submission in lost:
            assert (await rig.ask(ledger, submission)).outcome == 0
        assert await rig.available(ledger, 0) == 300
    await run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={new_cluster.url}", str(dump))
    restored = at(rig, new_cluster.url)
    # Before anything is started Redis tells of a time that these books do not know, so they are proved without it.
    verified = await verify(new_cluster.url, None, SEAL_KEY, lambda _done, _total: None)
    assert (verified.balance, verified.entries) == (1_000, 2)
    with pytest.raises(BadRow, match="a history that the journal does not have"):
        await restored.verify()
    await lost_time_again(restored, before, lost)


async def test_a_base_backup_with_its_wal_loses_nothing_that_was_archived(
    own_folder: Path, valkey_url: str, tmp_path: Path
) -> None:
    archive = own_folder / "archive"
    archive.mkdir()
    archive.chmod(0o777)
    options = {**SMALL, "archive_mode": "on", "archive_command": f"cp %p {archive}/%f", "wal_level": "replica"}
    engine = EmbeddedPostgres(own_folder / "postgresql", options=options)
    engine.start()
    try:
        rig = Rig(engine.url, valkey_url)
        await rig.prepare(cards=2)
        async with rig.ledger() as ledger:
            await rig.give(ledger, 0, 1_000)
            copy = own_folder / "copy"
            words = ("--checkpoint=fast", "--wal-method=none", f"--pgdata={copy}", f"--dbname={engine.url}")
            await run("pg_basebackup", *words)
            submission = rig.submission(Operation.REDEEM, 0, points=700, amount=700, currency="EUR")
            assert (await rig.ask(ledger, submission)).outcome == 0
        async with rig.database() as connection:
            last = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        give_up = time.monotonic() + 60
        while not (archive / last).exists():
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        engine.kill()
        place = own_folder / "restored"
        _put_in_place(engine.folder, copy, place)
        (place / "data" / "recovery.signal").touch()
        restored = EmbeddedPostgres(place, options={**SMALL, "restore_command": f"cp {archive}/%f %p"})
        await asyncio.to_thread(restored.start)
        try:
            other = at(rig, restored.url)
            async with other.database() as connection:
                while await connection.fetchval("SELECT pg_is_in_recovery()"):
                    assert time.monotonic() < give_up + 60
                    await asyncio.sleep(0.05)
            # Recovered to the last segment: nothing is lost, and the request is known.
            async with other.ledger() as ledger:
                assert await other.available(ledger, 0) == 300
                again = await other.insist(ledger, replace(submission))
                assert (again.outcome, again.replayed) == (0, True)
            assert (await other.verify()).balance == 300
        finally:
            restored.stop()
    finally:
        engine.stop()


def _put_in_place(original: Path, copy: Path, place: Path) -> None:
    """Make a base backup the cluster of another folder, with the owner and the password of the original."""
    place.mkdir()
    place.chmod(0o711)
    shutil.copy2(original / "password", place / "password")
    shutil.move(copy, place / "data")
    owner = (original / "data").stat()
    for path in [place / "data", *(place / "data").rglob("*")]:
        shutil.chown(path, owner.st_uid, owner.st_gid)
    (place / "data").chmod(0o700)
