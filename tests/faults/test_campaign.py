"""A short campaign of random faults under load, judged by what the registers heard and the journal alone.

TILLWIRE_FAULT_SEED repeats a campaign.
"""

import asyncio
import os
import random
import shutil
from pathlib import Path

import redis.asyncio as redis

from ledger.journal.writer import LOCK_CLASS
from tests.faults.conftest import Site
from tests.rigs.registers import Registers

ROUNDS = 8


class Saboteur:
    """Does one random harm at a time, and mends what does not mend itself."""

    def __init__(self, site: Site, copy: Path, dice: random.Random) -> None:
        self._site, self._copy, self._dice = site, copy, dice

    async def strike(self) -> str:
        harm = self._dice.choice(
            [
                self.kill_valkey,
                self.kill_postgres,
                self.flush,
                self.roll_back,
                self.end_sessions,
                self.set_accounts_back,
            ]
        )
        await harm()
        return harm.__name__

    async def kill_valkey(self) -> None:
        self._site.valkey.kill()
        await asyncio.to_thread(self._site.valkey.start)

    async def kill_postgres(self) -> None:
        self._site.postgres.kill()
        await asyncio.to_thread(self._site.postgres.start)

    async def flush(self) -> None:
        async with redis.Redis.from_url(self._site.valkey.url) as client:
            await client.flushall()

    async def roll_back(self) -> None:
        valkey = self._site.valkey
        await asyncio.to_thread(valkey.stop)
        folder = valkey.folder / "appendonlydir"
        if self._copy.exists():
            shutil.rmtree(folder)
            shutil.copytree(self._copy, folder)
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(folder, self._copy)
        await asyncio.to_thread(valkey.start)

    async def end_sessions(self) -> None:
        async with self._site.rig.database() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1",
                LOCK_CLASS,
            )

    async def set_accounts_back(self) -> None:
        async with redis.Redis.from_url(self._site.valkey.url) as client:
            keys = [key async for key in client.scan_iter("tillwire:{0}:[0-9]*")]
            old = [await client.get(key) for key in keys]
            await asyncio.sleep(0.05)
            for key, value in zip(keys, old, strict=True):
                if value is not None:
                    await client.set(key, value)


async def test_a_campaign_of_random_faults_breaks_no_promise(site: Site, tmp_path: Path) -> None:
    seed = int(os.environ.get("TILLWIRE_FAULT_SEED") or random.SystemRandom().randrange(2**32))
    print(f"TILLWIRE_FAULT_SEED={seed}")  # noqa: T201 - shown with a failure, to repeat it
    dice = random.Random(seed)  # noqa: S311 - it must be repeatable, not secret
    saboteur, registers = Saboteur(site, tmp_path / "copy", dice), Registers(site.rig, 10, seed)
    async with site.rig.ledger() as ledger:
        for _ in range(ROUNDS):
            load = asyncio.create_task(registers.work(ledger, 30))
            await asyncio.sleep(dice.random() * 0.2)
            print(await saboteur.strike())  # noqa: T201
            await load
        # An account set back is found by the next change to it; a read alone cannot know.
        await registers.work(ledger, 20)
        await registers.check()
