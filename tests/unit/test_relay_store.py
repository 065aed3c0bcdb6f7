"""The relay's store: what is on the disk, what is not any more, and files that it must not touch."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.answers import Balance
from server.relay import store_thread
from server.relay.offline import stored_message
from server.relay.store import Store
from server.relay.store_errors import StoreDamaged, StoreFailed, StoreFull, StoreInUse, StoreTooNew, StoreUnusable
from server.relay.store_file import STORE_FILE
from server.relay.store_rows import Advice, Allowance, AllowanceState, Fate, Finish, KnownBalance, StoreLimits
from tests.rigs.relay_desk import CARD, earn

DAY_MS = 86_400_000


def advice(card: bytes = b"c" * 16, **given: object) -> Advice:
    request = earn()
    made = Advice(
        request.request_id, b"f" * 8, int(request.op), card, "till-1", stored_message(request), b"\x96\x00", 1, 2
    )
    return made._replace(**given)  # type: ignore[arg-type]


def granted(card: bytes = b"c" * 16) -> Allowance:
    return Allowance(card, b"h" * 16, 1, CARD.value, AllowanceState.GRANTED, 500, 10, 20)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "relay", StoreLimits())
    yield opened
    await opened.close()


async def again(store: Store, folder: Path) -> Store:
    await store.close()
    return await Store.open(folder / "relay", StoreLimits())


async def test_only_the_owner_may_read_the_store(store: Store, tmp_path: Path) -> None:
    await store.take(advice())
    folder = tmp_path / "relay"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


async def test_everything_is_there_after_a_restart(store: Store, tmp_path: Path) -> None:
    kept, undone = advice(), advice(target=b"t" * 16)
    await store.take_many([kept, undone])
    await store.add_allowance(granted())
    await store.note_balances({b"c" * 16: KnownBalance(Balance(1, 2, 3, 4, 5, 6), 7)})
    await store.keep("roster", b"r")
    hashed = store.hash("ean13:1")
    store = await again(store, tmp_path)
    assert list(store.queued) == [kept.request_id, undone.request_id]
    assert store.known == set(store.queued)
    assert store.reversed == {(b"t" * 16, b"c" * 16): undone.request_id}
    assert store.loaded_allowances == await store.allowances() == [granted()]
    assert await store.balance(b"c" * 16) == KnownBalance(Balance(1, 2, 3, 4, 5, 6), 7)
    assert (store.kept("roster"), store.kept("other")) == (b"r", None)
    assert store.hash("ean13:1") == hashed
    found = await store.remembered(kept.request_id)
    assert found is not None
    assert (found.fingerprint, found.body, found.card) == (kept.fingerprint, kept.body, kept.card)
    await store.close()


async def test_an_id_that_is_there_keeps_its_first_answer(store: Store) -> None:
    first = advice()
    assert (await store.take(first)).fresh
    taken = await store.take(first._replace(body=b"other", fingerprint=b"g" * 8))
    assert (taken.fresh, taken.body, taken.fingerprint) == (False, first.body, first.fingerprint)
    both = await store.take_many([first, advice()])
    assert [each.fresh for each in both] == [False, True]
    assert len(store.queued) == 2


async def test_many_are_stored_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(StoreFull):
        await store.take_many([advice(), advice(hold_id=b"h" * 16)])
    assert not store.queued
    assert await store.queued_after(0, 10) == []


async def test_work_that_fails_takes_back_only_itself(store: Store) -> None:
    good, bad, fine = advice(), advice(hold_id=b"x" * 16), advice()
    results = await asyncio.gather(*[store.take(each) for each in (good, bad, fine)], return_exceptions=True)
    assert [type(each).__name__ for each in results] == ["Taken", "StoreFull", "Taken"]
    assert [each.request_id for each in await store.queued_after(0, 10)] == [good.request_id, fine.request_id]


async def test_an_allowance_is_spent_with_its_redemption_and_only_once(store: Store, tmp_path: Path) -> None:
    await store.add_allowance(granted())
    await store.take(advice(hold_id=b"h" * 16))
    with pytest.raises(StoreFull):
        await store.take(advice(hold_id=b"h" * 16))
    store = await again(store, tmp_path)
    assert [each.state for each in store.loaded_allowances] == [AllowanceState.SPENT]
    assert len(store.queued) == 1
    await store.close()


@pytest.mark.parametrize(("release", "left"), [(False, []), (True, [AllowanceState.RELEASING])])
async def test_a_finished_redemption_settles_its_allowance(
    store: Store, release: bool, left: list[AllowanceState]
) -> None:
    await store.add_allowance(granted())
    spent = advice(hold_id=b"h" * 16)
    await store.take(spent)
    await store.finish([Finish(spent.request_id, 5, release=release)])
    assert [each.state for each in await store.allowances()] == left


async def test_what_is_finished_leaves_the_queue_and_keeps_its_answer(store: Store, tmp_path: Path) -> None:
    done, declined = advice(), advice()
    await store.take_many([done, declined])
    await store.finish([Finish(done.request_id, 5)])
    await store.finish([Finish(declined.request_id, 6, outcome=103)])
    await store.finish([Finish(declined.request_id, 7, outcome=103)])
    assert not store.queued
    (conflict,) = await store.listed_conflicts(10)
    assert (conflict.request_id, conflict.outcome, conflict.error) == (declined.request_id, 103, None)
    assert (conflict.amount, conflict.currency, conflict.reference) == (1_000, "EUR", "r-1")
    assert conflict.masked == "ean13:2000*****0015"
    store = await again(store, tmp_path)
    assert store.conflicts == 1
    assert store.known == {done.request_id, declined.request_id}
    await store.close()


async def test_a_reversal_that_headquarters_did_not_take_closes_nothing(store: Store, tmp_path: Path) -> None:
    undo = advice(target=b"t" * 16)
    await store.take(undo)
    await store.finish([Finish(undo.request_id, 5, outcome=111)])
    assert not store.reversed
    store = await again(store, tmp_path)
    assert not store.reversed
    await store.close()


async def test_answers_are_forgotten_thirty_days_after_headquarters_answered(store: Store, tmp_path: Path) -> None:
    old, young, waiting = advice(), advice(target=b"t" * 16), advice()
    await store.take_many([old, young, waiting])
    await store.finish([Finish(old.request_id, 1_000)])
    await store.finish([Finish(young.request_id, 2_000)])
    assert await store.forget(30 * DAY_MS + 1_000) == 0
    assert await store.forget(30 * DAY_MS + 1_001) == 1
    assert await store.forget(0) == 0, "the clock went back"
    assert store.known == {young.request_id, waiting.request_id}
    assert await store.forget(300 * DAY_MS) == 1
    assert (store.known, store.reversed) == ({waiting.request_id}, {})
    assert await store.remembered(old.request_id) is None
    store = await again(store, tmp_path)
    assert store.known == set(store.queued) == {waiting.request_id}
    await store.close()


async def test_a_number_of_the_queue_never_comes_twice(store: Store, tmp_path: Path) -> None:
    first = advice()
    await store.take(first)
    (queued,) = await store.queued_after(0, 10)
    await store.finish([Finish(first.request_id, 5)])
    store = await again(store, tmp_path)
    await store.take(advice())
    (next_,) = await store.queued_after(0, 10)
    assert next_.seq > queued.seq
    await store.close()


async def test_of_too_many_balances_and_conflicts_the_oldest_go(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, StoreLimits(balances_max=2, conflicts_max=2))
    for at_ms in (3, 1, 2):
        await store.note_balances({bytes([at_ms]) * 16: KnownBalance(Balance(0, 0, 0, 0, 0, 0), at_ms)})
        refused = advice()
        await store.take(refused)
        await store.finish([Finish(refused.request_id, at_ms, error=1)])
    assert [await store.balance(bytes([each]) * 16) is None for each in (1, 2, 3)] == [True, False, False]
    assert [each.answered_ms for each in await store.listed_conflicts(10)] == [2, 1]
    assert store.conflicts == 2
    await store.close()


async def test_past_its_limits_the_store_refuses_and_takes_nothing(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, StoreLimits(queue_max=2, answers_max=3, jobs_max=1))
    taken = asyncio.ensure_future(store.take(advice()))
    await asyncio.sleep(0)
    with pytest.raises(StoreFull, match="disk"):
        await store.take(advice())
    await taken
    with pytest.raises(StoreFull, match="queue"):
        await store.take_many([advice(), advice()])
    for _ in range(2):
        one = advice()
        await store.take(one)
        await store.finish([Finish(one.request_id, 1)])
    with pytest.raises(StoreFull, match="queue"):
        await store.take(advice())
    assert len(store.known) == 3
    await store.close()


async def test_those_under_way_count_against_the_queues_limit(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, StoreLimits(queue_max=3))
    results = await asyncio.gather(*[store.take(advice()) for _ in range(10)], return_exceptions=True)
    assert [type(each).__name__ for each in results].count("Taken") == 3
    assert len(await store.queued_after(0, 100)) == 3
    await store.close()


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def gone(meant: bytes, folder: Path) -> None:
    async with asyncio.timeout(20):
        while meant in bytes_on_disk(folder):
            await asyncio.sleep(0.05)


async def test_card_data_leaves_the_disk_after_headquarters_answered(store: Store, tmp_path: Path) -> None:
    folder, shown = tmp_path / "relay", CARD.value.encode()
    requests = [advice() for _ in range(300)]
    await store.take_many(requests)
    await store.add_allowance(granted())
    assert shown in bytes_on_disk(folder)
    await store.drop_allowance(granted().hold_id)
    for one in requests:
        await store.finish([Finish(one.request_id, 5, outcome=103)])
    await gone(shown, folder)
    assert len(await store.listed_conflicts(1_000)) == 300


async def test_card_data_leaves_the_disk_also_while_there_is_always_something_to_do(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_thread, "_ERASE_AT_LAST_S", 0.2)
    one = advice()
    await store.take(one)
    await store.finish([Finish(one.request_id, 5)])

    async def keep_busy() -> None:
        while True:
            await store.keep("heartbeat", b"x")

    busy = asyncio.create_task(keep_busy())
    await gone(CARD.value.encode(), tmp_path / "relay")
    busy.cancel()


async def test_card_data_leaves_the_disk_after_somebody_who_looked_has_gone(store: Store, tmp_path: Path) -> None:
    folder, shown = tmp_path / "relay", CARD.value.encode()
    reader = sqlite3.connect(folder / STORE_FILE, isolation_level=None)
    one = advice()
    await store.take(one)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM queued").fetchone() == (1,)
    await store.finish([Finish(one.request_id, 5)])
    await asyncio.sleep(1.5)
    assert shown in bytes_on_disk(folder)
    assert not store.queued, "a reader stops nobody"
    reader.close()
    await gone(shown, folder)


async def test_the_store_can_be_closed_twice_and_takes_nothing_afterwards(store: Store) -> None:
    taking = asyncio.ensure_future(store.take(advice()))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert (await taking).fresh
    with pytest.raises(StoreFailed):
        await store.take(advice())


async def test_a_second_relay_is_refused_and_the_first_goes_on(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreInUse, match="another relay"):
        await Store.open(tmp_path / "relay", StoreLimits())
    await store.take(advice())
    store = await again(store, tmp_path)
    await store.close()


async def test_a_store_that_could_not_be_opened_leaves_its_folder_free(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"not a database, but something of somebody" * 100)
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            await Store.open(tmp_path, StoreLimits())


def close_file(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / STORE_FILE)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def filled(folder: Path) -> None:
    store = await Store.open(folder, StoreLimits())
    await store.take_many([advice() for _ in range(500)])
    await store.close()


async def refused(folder: Path, error: type[StoreUnusable], words: str) -> None:
    """Opening must fail with these words and leave every byte as it is."""
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with pytest.raises(error, match=words):
        await Store.open(folder, StoreLimits())
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name in before}
    assert after == before


async def test_a_file_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    await filled(tmp_path)
    close_file(tmp_path, "PRAGMA user_version = 99")
    await refused(tmp_path, StoreTooNew, "later version")


async def test_a_damaged_file_is_not_touched(tmp_path: Path) -> None:
    await filled(tmp_path)
    path = tmp_path / STORE_FILE
    content = bytearray(path.read_bytes())
    content[4_096 * 3 : 4_096 * 6] = os.urandom(4_096 * 3)
    path.write_bytes(content)
    await refused(tmp_path, StoreDamaged, "cannot be trusted")


async def test_a_file_that_was_cut_off_is_not_touched(tmp_path: Path) -> None:
    await filled(tmp_path)
    os.truncate(tmp_path / STORE_FILE, 4_096 * 5)
    await refused(tmp_path, StoreDamaged, "cannot be trusted")


async def test_a_file_of_something_else_is_not_touched(tmp_path: Path) -> None:
    close_file(tmp_path, "CREATE TABLE somebody_elses (id)")
    await refused(tmp_path, StoreDamaged, "something else")


async def test_a_log_whose_file_is_missing_is_not_thrown_away(tmp_path: Path) -> None:
    await filled(tmp_path)
    reader = sqlite3.connect(tmp_path / STORE_FILE)
    reader.execute("INSERT INTO kept VALUES ('x', x'00')")
    reader.commit()
    log = (tmp_path / "relay.db-wal").read_bytes()
    assert log
    (tmp_path / STORE_FILE).unlink()
    reader.close()
    (tmp_path / "relay.db-wal").write_bytes(log)
    await refused(tmp_path, StoreDamaged, "missing")


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="file/relay"):
        await Store.open(tmp_path / "file" / "relay", StoreLimits())


async def test_a_first_start_that_died_in_the_middle_is_begun_again(tmp_path: Path) -> None:
    close_file(tmp_path, "PRAGMA journal_mode = WAL")
    store = await Store.open(tmp_path, StoreLimits())
    await store.take(advice())
    await store.close()


async def test_the_fate_of_each_answer_is_written_down(store: Store, tmp_path: Path) -> None:
    done, bad, waits = advice(), advice(), advice()
    await store.take_many([done, bad, waits])
    await store.finish([Finish(done.request_id, 5)])
    await store.finish([Finish(bad.request_id, 5, error=2)])
    await store.close()
    with sqlite3.connect(tmp_path / "relay" / STORE_FILE) as connection:
        fates = dict(connection.execute("SELECT request_id, fate FROM answer").fetchall())
    connection.close()
    assert fates == {done.request_id: Fate.DONE, bad.request_id: Fate.CONFLICT, waits.request_id: Fate.QUEUED}


async def test_an_allowance_that_is_gone_does_not_come_back(store: Store) -> None:
    await store.add_allowance(granted())
    assert await store.change_allowance(granted()._replace(state=AllowanceState.RELEASING))
    await store.drop_allowance(granted().hold_id)
    assert not await store.change_allowance(granted())
    assert await store.allowances() == []


async def test_an_allowance_that_is_spent_cannot_be_let_go(store: Store) -> None:
    await store.add_allowance(granted())
    await store.take(advice(hold_id=b"h" * 16))
    assert not await store.change_allowance(granted()._replace(state=AllowanceState.RELEASING))
    assert [each.state for each in await store.allowances()] == [AllowanceState.SPENT]


async def test_a_card_has_one_allowance_and_a_mistake_there_harms_nobody_else(store: Store) -> None:
    await store.add_allowance(granted())
    second = asyncio.ensure_future(store.add_allowance(granted()._replace(hold_id=b"i" * 16)))
    assert (await store.take(advice())).fresh
    with pytest.raises(sqlite3.IntegrityError):
        await second
    assert store.failing is None


async def test_every_commit_is_flushed_and_deleted_rows_are_overwritten(store: Store) -> None:
    names = ("journal_mode", "synchronous", "secure_delete")
    found = await store._thread.read(lambda file: [file.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
    assert found == ["wal", 2, 1]
