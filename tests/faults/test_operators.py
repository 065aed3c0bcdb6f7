"""An operator's request whose answer is lost, or whose worker dies, is asked again: one effect, one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ledger.hot_store import HotStore, HotStoreDown
from ledger.journal.writer import JournalDown, Writer
from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.operator_desk import Decided, Undecided
from ledger.submission import Refusal
from ledger.truth import Standing
from tests.faults.conftest import Site
from tests.faults.test_lost_answers import Gate, Loses
from tests.faults.test_poison import spoil
from tests.rigs.ledger_rig import Reply, Rig
from tests.rigs.operator_rig import account_of, desk_at, new_id, read


async def insist(ask: Callable[[], Awaitable[Decided]]) -> Reply:
    """Ask with the same id until there is an answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return read(await ask())
            except Undecided as undecided:
                if undecided.refusal is Refusal.ID_REUSED:
                    raise
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("owner", "name", "error"), [(Writer, "commit", JournalDown), (HotStore, "decide", HotStoreDown)]
)
@pytest.mark.parametrize("at", ["adjust", "out", "in"])
async def test_a_lost_answer_of_an_engine_is_asked_for_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: type[Exception], at: str
) -> None:
    loses = Loses(monkeypatch, owner, name, error)
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        source, target = await account_of(rig, 1), await account_of(rig, 2)
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        redeemed = await rig.ask(ledger, redeem)
        ids = {step: new_id() for step in ("adjust", "out", "in")}
        steps: dict[str, Callable[[], Awaitable[Decided]]] = {
            "adjust": lambda: desk.adjust(ids["adjust"], source, 50, 0, "goodwill"),
            "out": lambda: desk.merge_out(ids["out"], source),
            "in": lambda: desk.merge_in(ids["in"], target, ids["out"]),
        }
        for step, ask in steps.items():
            loses.left = 2 if step == at else 0
            first = await insist(ask)
            loses.left = 0
            again = await insist(ask)
            assert (first.outcome, again.body, again.replayed) == (Outcome.APPROVED, first.body, True)
        assert loses.lost
        assert (await rig.insist(ledger, redeem)).body == redeemed.body
        assert await rig.available(ledger, 1) == 950
    assert (await rig.verify()).merging == 0


@pytest.mark.parametrize("step", ["out", "in"])
async def test_a_worker_that_dies_between_decision_and_commit_leaves_the_step_to_the_next_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    commits = Gate(monkeypatch, Writer, "commit")
    out_id, in_id = new_id(), new_id()
    source, target = await account_of(rig, 1), await account_of(rig, 2)

    def ask(ledger: Ledger, which: str) -> Awaitable[Decided]:
        desk = desk_at(ledger)
        return desk.merge_out(out_id, source) if which == "out" else desk.merge_in(in_id, target, out_id)

    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        if step == "in":
            await ask(ledger, "out")
        commits.close()
        dying = asyncio.ensure_future(ask(ledger, step))
        await commits.reached.wait()
        await ledger.stop(0.0)
        with pytest.raises(Undecided) as undecided:
            await dying
        assert undecided.value.refusal is Refusal.UNAVAILABLE
        commits.open.set()
    async with rig.ledger() as ledger:
        for which in ("out", "in"):
            assert (await insist(lambda which=which: ask(ledger, which))).outcome == Outcome.APPROVED  # type: ignore[misc]
        assert await rig.available(ledger, 1) == await rig.available(ledger, 2) == 1000
    assert (await rig.verify()).merging == 0


async def test_redis_may_go_in_the_middle_of_a_merge_and_come_back_as_it_was(valkey_site: Site) -> None:
    rig = valkey_site.rig
    async with rig.ledger() as ledger:
        desk, out_id, in_id = desk_at(ledger), new_id(), new_id()
        source, target = await account_of(rig, 1), await account_of(rig, 2)
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        redeemed = await rig.ask(ledger, redeem)
        assert (await insist(lambda: desk.merge_out(out_id, source))).outcome == Outcome.APPROVED
        valkey_site.valkey.kill()
        assert (await insist(lambda: desk.merge_in(in_id, target, out_id))).outcome == Outcome.APPROVED
        assert (await rig.insist(ledger, redeem)).body == redeemed.body
        await asyncio.to_thread(valkey_site.valkey.start)
        await rig.until_on(ledger, standby=False)
        assert (await rig.insist(ledger, redeem)).body == redeemed.body
        assert await rig.available(ledger, 1) == 900


@pytest.mark.parametrize("state", [b"", b"\xc1", b"\x00" * 13])
async def test_a_state_that_is_none_stops_no_other_account(rig: Rig, state: bytes) -> None:
    source, target = await account_of(rig, 3), await account_of(rig, 2)
    async with rig.database() as connection, rig.ledger() as ledger:
        sound = await connection.fetchval("SELECT state FROM account WHERE account_id = $1", source)
        await spoil(connection, source, state)
        epochs, desk, out_id = ledger.statistics.epochs, desk_at(ledger), new_id()
        with pytest.raises(Undecided) as undecided:
            await desk.merge_out(out_id, source)
        assert undecided.value.refusal is Refusal.UNAVAILABLE
        status = await rig.do(ledger, Operation.STATUS, 3, target=new_id())
        assert status.detail[0] == Standing.UNKNOWN
        await rig.give(ledger, 2, 10)
        assert ledger.statistics.epochs == epochs
        await spoil(connection, source, sound)
        await insist(lambda: desk.merge_out(out_id, source))
        await insist(lambda: desk.merge_in(new_id(), target, out_id))
