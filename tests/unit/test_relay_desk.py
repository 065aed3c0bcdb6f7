"""What becomes of a register's request at a relay, on line, off line and in between."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.codes import CardKind, ErrorCode, Message, Outcome, StatusState
from protocol.messages import decode
from protocol.relay_messages import RequestItem
from protocol.requests import (
    BlockRequest,
    Card,
    HoldRequest,
    Receipt,
    RefundRequest,
    ReleaseRequest,
    Request,
    SaleRequest,
)
from server.relay.asking import LineDown, NoReply
from server.relay.desk import DeskLimits
from server.relay.store_rows import StoreLimits
from tests.rigs.relay_desk import (
    CARD,
    OTHER,
    ROSTER,
    SECOND,
    TERMINAL,
    Premises,
    balance,
    earn,
    premises,
    redeem,
    reverse,
    status,
)
from tests.rigs.relay_headquarters import NOW_MS

EUR = Receipt(1_000, "EUR", "r")


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Premises]:
    async with premises(tmp_path) as made:
        yield made


async def test_a_request_answered_on_line_gets_headquarters_bytes_and_leaves_nothing_in_the_queue(
    shop: Premises,
) -> None:
    request = earn()
    heard = await shop.ask(request)
    assert heard.body == shop.headquarters.answers[request.request_id][1]
    assert not heard.replayed
    assert not shop.store.queued
    assert not shop.store.known
    assert (await shop.ask(request)).replayed


async def test_what_needs_nobodys_leave_is_stored_and_approved_off_line(shop: Premises) -> None:
    shop.line.up = False
    sale = SaleRequest(b"s" * 16, 0, CARD, EUR, 0)
    release = ReleaseRequest(b"l" * 16, 0, CARD, b"h" * 16)
    for request in (earn(), sale, release, reverse(earn())):
        heard = await shop.ask(request)
        assert heard.outcome == Outcome.APPROVED
        assert (heard.answer.points, heard.answer.earned, heard.answer.balance) == (0, 0, None)
        assert request.request_id in shop.store.queued


@pytest.mark.parametrize(
    "request_",
    [
        redeem(10),
        HoldRequest(b"h" * 16, 0, CARD, 10, EUR),
        SaleRequest(b"s" * 16, 0, CARD, EUR, 10),
        RefundRequest(b"r" * 16, 0, CARD, b"o" * 16, EUR),
        BlockRequest(b"b" * 16, 0, CARD, 0),
        balance(),
    ],
    ids=lambda request: request.op.name,
)
async def test_what_only_headquarters_can_decide_is_declined_offline(shop: Premises, request_: Request) -> None:
    shop.line.up = False
    heard = await shop.ask(request_)
    assert heard.outcome == Outcome.OFFLINE
    assert not shop.store.queued


async def test_the_relay_declines_what_headquarters_would_decline_by_rules_that_it_knows(shop: Premises) -> None:
    shop.line.up = False
    forbidden = TERMINAL._replace(permitted=())
    assert (await shop.ask(earn(), forbidden)).outcome == Outcome.NOT_PERMITTED
    assert (await shop.ask(earn(card=Card(CardKind.EAN13, "123")))).outcome == Outcome.BAD_CARD
    assert (await shop.ask(earn(card=Card(CardKind.EAN13, "123")), forbidden)).outcome == Outcome.NOT_PERMITTED
    dollars = SaleRequest(b"s" * 16, 0, CARD, Receipt(1, "USD", ""), 0)
    assert (await shop.ask(dollars)).outcome == Outcome.WRONG_CURRENCY
    assert (await shop.ask(reverse(earn()), forbidden)).outcome == Outcome.APPROVED
    assert len(shop.store.queued) == 1


async def test_an_amount_past_the_limit_is_malformed(tmp_path: Path) -> None:
    async with premises(tmp_path, desk_limits=DeskLimits(amount_max=999)) as shop:
        shop.line.up = False
        assert (await shop.ask(earn(1_000))).error == ErrorCode.MALFORMED
        assert not shop.store.queued


async def test_a_copy_gets_the_relays_first_answer_off_line_on_line_and_after_a_restart(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    first = await shop.ask(request)
    assert not first.replayed
    for _ in range(2):
        again = await shop.ask(request)
        assert (again.body, again.replayed) == (first.body, True)
        await shop.reopen()
    await shop.drained()
    again = await shop.ask(request)
    assert (again.body, again.replayed) == (first.body, True)


async def test_an_earn_that_comes_again_as_an_advice_is_the_same_request(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    first = await shop.ask(request)
    again = await shop.ask(earn(request_id=request.request_id, offline=True, sale_time_ms=5))
    assert (again.body, again.replayed) == (first.body, True)


async def test_the_same_id_from_two_registers_or_with_another_amount_is_reused(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    await shop.ask(request)
    assert (await shop.ask(request, OTHER)).error == ErrorCode.ID_REUSED
    assert (await shop.ask(earn(1, request_id=request.request_id))).error == ErrorCode.ID_REUSED
    shop.line.up = True
    assert (await shop.ask(request, OTHER)).error == ErrorCode.ID_REUSED
    assert len(shop.store.queued) == 1


async def test_an_earn_in_doubt_becomes_an_advice_and_has_one_effect(shop: Premises) -> None:
    def answer_is_lost(item: RequestItem) -> None:
        shop.headquarters.answer(item)
        raise NoReply

    shop.line.before = answer_is_lost
    request = earn(1_000)
    heard = await shop.ask(request)
    assert heard.outcome == Outcome.APPROVED
    assert request.request_id in shop.store.queued
    shop.line.before = lambda _: None
    await shop.drained()
    assert shop.headquarters.balances == {CARD.token: 100}
    assert shop.store.conflicts == 0


@pytest.mark.parametrize("request_", [redeem(1), balance(), status(earn())], ids=lambda request: request.op.name)
async def test_a_doubt_about_anything_else_is_told_to_the_register(shop: Premises, request_: Request) -> None:
    shop.line.silent = True
    assert (await shop.ask(request_)).error == ErrorCode.UNAVAILABLE
    assert not shop.store.queued


async def test_a_request_that_never_left_is_answered_as_off_line(shop: Premises) -> None:
    def gone(item: RequestItem) -> None:
        raise LineDown

    shop.line.before = gone
    assert (await shop.ask(redeem(1))).outcome == Outcome.OFFLINE
    assert (await shop.ask(earn())).outcome == Outcome.APPROVED


async def test_the_reversal_of_what_waits_waits_behind_it_even_while_the_line_is_up(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    await shop.ask(request)
    shop.line.up = True
    undo = reverse(request)
    assert (await shop.ask(undo)).outcome == Outcome.APPROVED
    assert not shop.headquarters.asked
    await shop.drained()
    assert [each for _, _, each in shop.headquarters.journal] == [request.request_id, undo.request_id]
    assert shop.headquarters.balances == {CARD.token: 0}
    assert shop.store.conflicts == 0


async def test_a_reversal_by_another_card_of_the_account_does_not_overtake_what_it_names(shop: Premises) -> None:
    shop.line.up = False
    requests = [earn(card=SECOND), earn(), earn()]
    for request in requests:
        await shop.ask(request)
    undo = reverse(requests[2], card=SECOND)
    await shop.ask(undo)
    await shop.drained()
    order = [each for _, _, each in shop.headquarters.journal]
    assert order.index(requests[2].request_id) < order.index(undo.request_id)


async def test_a_copy_that_comes_after_its_reversal_was_taken_is_declined_and_not_stored(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    await shop.ask(reverse(request))
    assert (await shop.ask(request)).outcome == Outcome.REVERSED
    shop.line.up = True
    assert (await shop.ask(request)).outcome == Outcome.REVERSED, "headquarters does not know of the reversal yet"
    await shop.drained()
    assert (await shop.ask(request)).outcome == Outcome.REVERSED
    assert not shop.headquarters.balances.get(CARD.token or "")
    assert shop.store.conflicts == 0


async def test_a_copy_in_doubt_whose_reversal_headquarters_approved_is_not_taken_as_an_advice(shop: Premises) -> None:
    request = earn()
    await shop.ask(reverse(request))
    shop.line.silent = True
    assert (await shop.ask(request)).outcome == Outcome.REVERSED
    assert not shop.store.queued


async def test_status_of_what_waits_is_told_from_the_store(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    first = await shop.ask(request)
    for up in (False, True):
        shop.line.up = up
        heard = await shop.ask(status(request))
        assert heard.answer.status == StatusState.STANDS
        assert heard.answer.original == first.answer
    await shop.ask(reverse(request))
    assert (await shop.ask(status(request))).answer.status == StatusState.REVERSED
    shop.line.up = False
    assert (await shop.ask(status(earn()))).error == ErrorCode.UNAVAILABLE


async def test_a_refund_of_what_waits_is_asked_to_wait(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    await shop.ask(request)
    shop.line.up = True
    heard = await shop.ask(RefundRequest(b"r" * 16, 0, CARD, request.request_id, EUR))
    assert heard.error == ErrorCode.BUSY
    assert heard.retry_after_ms
    assert not shop.headquarters.asked


async def test_a_balance_is_the_last_known_with_its_age_and_says_that_it_is_provisional(shop: Premises) -> None:
    shop.headquarters.balances[CARD.token or ""] = 700
    await shop.ask(balance())
    shop.line.up = False
    for _ in range(2):
        shop.headquarters.now_ms = NOW_MS + 60_000
        heard = await shop.ask(balance())
        assert heard.answer.balance is not None
        assert (heard.answer.balance.available, heard.answer.provisional, heard.answer.age_ms) == (700, True, 60_000)
        await shop.balances.write()
        await shop.reopen()
    shop.headquarters.now_ms = NOW_MS - 60_000
    assert (await shop.ask(balance())).answer.age_ms == 0, "the clock went back"
    shop.line.knows_time = False
    heard = await shop.ask(balance())
    assert (heard.answer.provisional, heard.answer.age_ms) == (True, None)
    assert (await shop.ask(balance(SECOND))).outcome == Outcome.OFFLINE


async def test_an_approval_of_headquarters_that_was_lost_in_the_shop_is_repeated_off_line(shop: Premises) -> None:
    shop.headquarters.balances[CARD.token or ""] = 700
    spent, earned = redeem(10), earn()
    first = [await shop.ask(spent), await shop.ask(earned)]
    shop.line.up = False
    again = [await shop.ask(spent), await shop.ask(earned)]
    assert [each.body for each in again] == [each.body for each in first]
    assert all(each.replayed for each in again)
    assert (await shop.ask(spent, OTHER)).error == ErrorCode.ID_REUSED
    assert not shop.store.queued


async def test_two_copies_at_once_are_both_answered_alike(shop: Premises) -> None:
    shop.line.up = False
    request = earn()
    copies = [shop.hand_over(request) for _ in range(5)]
    heard = [await asyncio.wait_for(each.heard, 20) for each in copies]
    assert len({each.body for each in heard}) == 1
    assert [each.replayed for each in heard] == [False, True, True, True, True]
    assert len(shop.store.queued) == 1


async def test_the_line_that_fails_between_two_copies_does_not_lead_to_two_answers(shop: Premises) -> None:
    asked = asyncio.Event()
    headquarters_answers = asyncio.Event()

    async def ask(item: RequestItem, timeout_s: float) -> object:
        asked.set()
        await headquarters_answers.wait()
        return shop.headquarters.answer(item)

    shop.line.ask = ask  # type: ignore[assignment, method-assign]
    request = earn()
    first = shop.hand_over(request)
    await asked.wait()
    shop.line.up = False
    second = shop.hand_over(request)
    await asyncio.sleep(0.01)
    assert not second.heard.done()
    headquarters_answers.set()
    heard = [await asyncio.wait_for(each.heard, 20) for each in (first, second)]
    assert heard[0].body == heard[1].body
    assert not shop.store.queued


async def test_past_the_queues_limit_the_register_hears_busy_and_nothing_is_stored(tmp_path: Path) -> None:
    async with premises(tmp_path, limits=StoreLimits(queue_max=2)) as shop:
        shop.line.up = False
        heard = [await shop.ask(earn()) for _ in range(3)]
        assert [each.error for each in heard] == [None, None, ErrorCode.BUSY]
        assert len(shop.store.queued) == 2


async def test_past_the_queues_limit_a_request_in_doubt_is_not_said_to_have_had_no_effect(tmp_path: Path) -> None:
    async with premises(tmp_path, limits=StoreLimits(queue_max=0)) as shop:
        shop.line.silent = True
        assert (await shop.ask(earn())).error == ErrorCode.UNAVAILABLE


async def test_past_the_desks_limit_the_register_hears_busy(tmp_path: Path) -> None:
    async with premises(tmp_path, desk_limits=DeskLimits(under_way_max=1)) as shop:
        first = shop.hand_over(earn())
        assert (await shop.ask(earn())).error == ErrorCode.BUSY
        assert (await asyncio.wait_for(first.heard, 20)).outcome == Outcome.APPROVED


async def test_a_desk_that_drains_answers_what_it_has_and_takes_nothing_more(shop: Premises) -> None:
    shop.line.up = False
    first = shop.hand_over(earn())
    draining = asyncio.create_task(shop.desk.drain())
    await asyncio.sleep(0)
    assert (await shop.ask(earn())).error == ErrorCode.BUSY
    await draining
    assert first.heard.result().outcome == Outcome.APPROVED
    await shop.desk.drain()


async def test_a_track_is_kept_as_no_more_than_the_number_in_it(shop: Premises) -> None:
    shop.line.up = False
    track = Card(CardKind.TRACK, "%B9643100000000010^DOE/JANE^2512101?")
    await shop.ask(earn(card=track))
    (queued,) = await shop.store.queued_after(0, 10)
    request = decode(queued.message)
    assert isinstance(request, Request)
    assert (request.card, request.op) == (SECOND, Message.EARN)


@pytest.mark.parametrize(("offline", "expected"), [(True, NOW_MS - 77), (False, NOW_MS)])
async def test_the_time_of_sale_is_the_registers_if_it_was_alone_itself(
    shop: Premises, offline: bool, expected: int
) -> None:
    shop.line.up = False
    await shop.ask(earn(offline=offline, sale_time_ms=NOW_MS - 77))
    (queued,) = await shop.store.queued_after(0, 10)
    assert queued.sale_ms == expected


async def test_without_headquarters_time_the_relays_own_clock_tells_the_time_of_sale(shop: Premises) -> None:
    shop.line.up = shop.line.knows_time = False
    await shop.ask(earn())
    (queued,) = await shop.store.queued_after(0, 10)
    assert queued.sale_ms == shop.now_ms


async def test_without_a_roster_nothing_is_approved(shop: Premises) -> None:
    shop.line.up = False
    shop.roster = None  # type: ignore[assignment]
    assert (await shop.ask(earn())).error == ErrorCode.UNAVAILABLE
    shop.roster = ROSTER
    assert (await shop.ask(earn())).outcome == Outcome.APPROVED
