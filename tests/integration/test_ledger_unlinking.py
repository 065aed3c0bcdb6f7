"""A card is taken from its account and leads nowhere, or to somebody else: through the whole ledger, on two workers.

The fixture proves the books at the end, so a row of the table `card` that stays, or goes too early, is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.journal.writer import JournalDown, Writer
from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.operator_desk import Undecided
from ledger.submission import Refusal
from ledger.truth import Standing
from tests.faults.test_lost_answers import Gate, Loses
from tests.faults.test_operators import insist
from tests.integration.test_ledger_workers import until_both_serve
from tests.integration.test_operators_workers import Link
from tests.rigs.ledger_rig import Rig, token_of
from tests.rigs.operator_rig import account_of, cards_of, desk_at, merge, new_card, new_id, reply

ISSUED_CARD, PHONE = 10, 77


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=6, issued=6, partitions=2)
    yield rig
    assert (await rig.verify()).merging == 0


@pytest.fixture
async def workers(rig: Rig) -> AsyncIterator[tuple[Ledger, Ledger]]:
    post = Link()
    async with post.worker(rig, 0) as first, post.worker(rig, 1) as second:
        await until_both_serve(first, second)
        yield first, second


async def linked(rig: Rig, ledger: Ledger, card: int) -> int:
    account = await account_of(rig, card)
    assert (await reply(desk_at(ledger).link(new_id(), account, new_card(PHONE)))).outcome == Outcome.APPROVED
    return account


async def unlinked(ledger: Ledger, account: int, card: int = PHONE) -> None:
    taken = await reply(desk_at(ledger).unlink(new_id(), account, token_of(card), "phone"))
    assert taken.outcome == Outcome.APPROVED


@pytest.mark.parametrize("status", ["active", "blocked", "replaced", "issued"])
async def test_a_card_that_was_taken_away_leads_nowhere_and_may_be_anybodys(
    rig: Rig, workers: tuple[Ledger, Ledger], status: str
) -> None:
    first, second = workers
    desk = desk_at(second)
    card = ISSUED_CARD if status == "issued" else 1
    account, other = await account_of(rig, card), await account_of(rig, 2)
    if status == "blocked":
        await reply(desk.block(new_id(), token_of(card)))
    if status == "replaced":
        await reply(desk.replace(new_id(), token_of(card), new_card(PHONE)))
    await desk.adjust(new_id(), account, 500, 0, "goodwill")
    await unlinked(first, account, card)
    for ledger in workers:
        assert (await rig.do(ledger, Operation.BALANCE, card)).outcome == Outcome.UNKNOWN_CARD
        again = await reply(desk_at(ledger).unlink(new_id(), account, token_of(card)))
        assert again.outcome == Outcome.UNKNOWN_CARD
    assert token_of(card) not in await cards_of(rig, account)
    assert (await reply(desk.replace(new_id(), token_of(2), new_card(card)))).outcome == Outcome.APPROVED
    assert (await rig.do(first, Operation.EARN, card, amount=2000)).outcome == Outcome.APPROVED
    assert await account_of(rig, card) == other
    assert await rig.available(second, card) == 100


@pytest.mark.parametrize(("leaves", "gets"), [(1, 1), (1, 2), (2, 1), (1, 3)])
async def test_what_was_asked_by_a_card_that_went_to_another_account_stays_as_it_was(
    rig: Rig, workers: tuple[Ledger, Ledger], leaves: int, gets: int
) -> None:
    """Retries get the first answer, and what names an earlier request finds it, also past what the ring remembers."""
    first, second = workers
    await rig.give(first, leaves, 1000)
    if gets != leaves:
        await rig.give(first, gets, 300)
    account = await linked(rig, first, leaves)
    redeems = [rig.submission(Operation.REDEEM, PHONE, points=10 + n) for n in range(12)]
    answers = [await rig.ask(first, redeem) for redeem in redeems]
    hold = rig.submission(Operation.HOLD, PHONE, points=50, hold_ms=3_600_000)
    await rig.ask(second, hold)
    assert [answer.outcome for answer in answers] == [Outcome.APPROVED] * 12
    await unlinked(second, account)
    spent = 1000 - sum(10 + n for n in range(12))

    async def nothing_is_contradicted() -> None:
        for ledger in workers:
            for redeem, answer in ((redeems[0], answers[0]), (redeems[-1], answers[-1])):
                again = await rig.ask(ledger, redeem)
                assert (again.body, again.replayed) == (answer.body, True)
                status = await rig.do(ledger, Operation.STATUS, PHONE, target=redeem.request_id)
                assert status.detail[0] in (Standing.STANDS, Standing.REVERSED)
            other_content = rig.submission(Operation.REDEEM, PHONE, points=9, request_id=redeems[0].request_id)
            assert (await rig.ask(ledger, other_content)).refusal == Refusal.ID_REUSED

    await nothing_is_contradicted()
    reversed_ = await rig.do(first, Operation.REVERSE, PHONE, target=redeems[0].request_id)
    assert (reversed_.outcome, reversed_.points) == (Outcome.APPROVED, 10)
    assert (await rig.do(first, Operation.REVERSE, PHONE, target=new_id())).outcome == Outcome.UNKNOWN_CARD
    linking = new_id()
    went = await reply(desk_at(first).link(linking, await account_of(rig, gets), new_card(PHONE)))
    assert went.outcome == Outcome.APPROVED
    await nothing_is_contradicted()
    released = await rig.do(second, Operation.RELEASE, PHONE, target=hold.request_id)
    assert (released.outcome, released.points) == (Outcome.APPROVED, 50)
    refunded = await rig.do(first, Operation.REFUND, PHONE, target=redeems[1].request_id)
    assert (refunded.outcome, refunded.points) == (Outcome.APPROVED, 11)
    foreign = await rig.do(first, Operation.REVERSE, PHONE, target=redeems[2].request_id, partner_id=9)
    assert foreign.outcome == Outcome.NOT_PERMITTED
    if gets != leaves:
        assert await rig.available(first, gets) == 300
        assert await rig.available(second, PHONE) == 300
    assert await rig.available(first, leaves) == spent + 10 + 11
    assert (await reply(desk_at(second).link(linking, await account_of(rig, gets), new_card(PHONE)))).body == went.body


async def test_the_same_unlinking_again_is_answered_as_it_was_and_takes_the_card_from_nobody_else(
    rig: Rig, workers: tuple[Ledger, Ledger]
) -> None:
    account, other, request_id = await linked(rig, workers[0], 1), await account_of(rig, 2), new_id()
    first = await reply(desk_at(workers[0]).unlink(request_id, account, token_of(PHONE), "phone"))
    for step in range(3):
        if step == 1:
            await desk_at(workers[1]).link(new_id(), other, new_card(PHONE))
        if step == 2:
            for _ in range(9):
                await rig.give(workers[0], 1, 1)
        for ledger in workers:
            again = await reply(desk_at(ledger).unlink(request_id, account, token_of(PHONE), "phone"))
            assert (again.body, again.replayed) == (first.body, True)
    with pytest.raises(Undecided) as refused:
        await desk_at(workers[0]).unlink(request_id, other, token_of(PHONE), "phone")
    assert refused.value.refusal is Refusal.ID_REUSED
    assert await account_of(rig, PHONE) == other


async def test_of_many_who_want_a_card_that_became_free_one_gets_it(rig: Rig, workers: tuple[Ledger, Ledger]) -> None:
    account = await linked(rig, workers[0], 1)
    accounts = [await account_of(rig, card) for card in range(6)]
    await unlinked(workers[1], account)
    asked = [
        reply(desk_at(workers[n % 2]).link(new_id(), accounts[card], new_card(PHONE)))
        for n, card in enumerate((0, 1, 2, 3, 4, 5))
    ]
    outcomes = [each.outcome for each in await asyncio.gather(*asked)]
    assert sorted(each or 0 for each in outcomes) == [Outcome.APPROVED] + [Outcome.CARD_IN_USE] * 5
    assert await account_of(rig, PHONE) == accounts[outcomes.index(Outcome.APPROVED)]


async def test_an_unlinking_and_what_wants_the_card_at_once_end_in_one_place(
    rig: Rig, workers: tuple[Ledger, Ledger]
) -> None:
    """An issued card is taken by somebody's REPLACE while its own account loses it."""
    for card in range(3):
        issued = ISSUED_CARD - card
        account = await account_of(rig, issued)
        replacing, taking = await asyncio.gather(
            rig.do(workers[card % 2], Operation.REPLACE, card, new_token=token_of(issued), new_token_kind=1),
            reply(desk_at(workers[1 - card % 2]).unlink(new_id(), account, token_of(issued))),
        )
        assert taking.outcome in (Outcome.APPROVED, Outcome.UNKNOWN_CARD)
        if replacing.outcome == Outcome.APPROVED:
            assert await account_of(rig, issued) == await account_of(rig, card)


async def test_a_card_that_moved_on_unused_and_was_taken_away_there_may_come_back(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        first, second = await account_of(rig, ISSUED_CARD), await account_of(rig, 1)
        await rig.do(ledger, Operation.REPLACE, 1, new_token=token_of(ISSUED_CARD), new_token_kind=1)
        refused = await reply(desk_at(ledger).unlink(new_id(), first, token_of(ISSUED_CARD)))
        assert refused.outcome == Outcome.UNKNOWN_CARD
        await unlinked(ledger, second, ISSUED_CARD)
        back = await reply(desk_at(ledger).link(new_id(), first, new_card(ISSUED_CARD)))
        assert back.outcome == Outcome.APPROVED
        await rig.give(ledger, ISSUED_CARD, 100)


async def test_what_a_merged_account_was_asked_by_a_card_is_found_wherever_the_card_was_taken_away(
    rig: Rig, workers: tuple[Ledger, Ledger]
) -> None:
    for before in (True, False):
        source_card, target_card = (1, 2) if before else (3, 4)
        await rig.give(workers[0], source_card, 1000)
        source, target = await linked(rig, workers[0], source_card), await account_of(rig, target_card)
        redeem = rig.submission(Operation.REDEEM, PHONE, points=100)
        answer = await rig.ask(workers[1], redeem)
        if before:
            await unlinked(workers[0], source)
        await merge(workers[0], source, target)
        if not before:
            await unlinked(workers[0], target)
        for ledger in workers:
            assert (await rig.ask(ledger, redeem)).body == answer.body
            status = await rig.do(ledger, Operation.STATUS, PHONE, target=redeem.request_id)
            assert status.detail[0] == Standing.STANDS
        undone = await rig.do(workers[1], Operation.REVERSE, PHONE, target=redeem.request_id)
        assert (undone.outcome, undone.points) == (Outcome.APPROVED, 100)
        assert await rig.available(workers[0], target_card) == 1000


async def test_a_veto_on_an_unlinking_leaves_one_effect(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        account = await linked(rig, ledger, 1)
        async with rig.redis() as redis:
            keys = [key async for key in redis.scan_iter("*") if key.endswith(b":%d" % account)]
            before = await redis.get(keys[0])
            await rig.give(ledger, 1, 900)
            await redis.set(keys[0], before)
        # A read of the truth would put it right; what is decided on the old state is not.
        await rig.do(ledger, Operation.EARN, 1, amount=2000)
        await unlinked(ledger, account)
        assert ledger.statistics.vetoes == 1
        assert await rig.available(ledger, 1) == 1000


async def test_without_redis_a_card_is_taken_away_as_well(rig: Rig) -> None:
    async with rig.ledger(redis_url="redis://127.0.0.1:1/0") as ledger:
        await rig.until_on(ledger, standby=True)
        account = await linked(rig, ledger, 1)
        await unlinked(ledger, account)
        assert (await rig.do(ledger, Operation.BALANCE, PHONE)).outcome == Outcome.UNKNOWN_CARD
        await linked(rig, ledger, 2)


@pytest.mark.parametrize("at", ["unlink", "link"])
async def test_a_lost_confirmation_of_a_commit_is_asked_for_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    loses = Loses(monkeypatch, Writer, "commit", JournalDown)
    async with rig.ledger() as ledger:
        account, other = await linked(rig, ledger, 1), await account_of(rig, 2)
        ids, desk = {"unlink": new_id(), "link": new_id()}, desk_at(ledger)
        for step, ask in (
            ("unlink", lambda: desk.unlink(ids["unlink"], account, token_of(PHONE))),
            ("link", lambda: desk.link(ids["link"], other, new_card(PHONE))),
        ):
            loses.left = 2 if step == at else 0
            first = await insist(ask)
            loses.left = 0
            again = await insist(ask)
            assert (first.outcome, again.body, again.replayed) == (Outcome.APPROVED, first.body, True)
        assert loses.lost
        assert await account_of(rig, PHONE) == other


async def test_a_worker_that_dies_between_decision_and_commit_leaves_the_unlinking_to_the_next_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, request_id = Gate(monkeypatch, Writer, "commit"), new_id()
    async with rig.ledger() as ledger:
        account = await linked(rig, ledger, 1)
        commits.close()
        dying = asyncio.ensure_future(desk_at(ledger).unlink(request_id, account, token_of(PHONE)))
        await commits.reached.wait()
        await ledger.stop(0.0)
        with pytest.raises(Undecided):
            await dying
        commits.open.set()
    async with rig.ledger() as ledger:
        taken = await insist(lambda: desk_at(ledger).unlink(request_id, account, token_of(PHONE)))
        assert taken.outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.BALANCE, PHONE)).outcome == Outcome.UNKNOWN_CARD
        await linked(rig, ledger, 2)
