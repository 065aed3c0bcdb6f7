"""Points set aside beforehand: spent off line at most once, never believed in when they may have been let go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from protocol.codes import ErrorCode, Message, Outcome
from protocol.messages import decode
from protocol.relay_messages import RedeemRules, RequestItem
from protocol.requests import Receipt, SaleRequest
from server.relay import allowances
from server.relay.asking import NoReply
from server.relay.offline import stored_message
from server.relay.store_errors import StoreFailed
from server.relay.store_rows import AllowanceState
from tests.rigs.relay_desk import CARD, LENDING, ROSTER, Premises, balance, premises, redeem, reverse
from tests.rigs.relay_headquarters import NOW_MS

TOKEN = CARD.token or ""


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Premises]:
    async with premises(tmp_path, roster=LENDING) as made:
        made.headquarters.balances[TOKEN] = 800
        made.start(made.allowances.run())
        yield made


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.002)


def state(shop: Premises) -> AllowanceState | None:
    allowance = shop.allowances.of(shop.card())
    return None if allowance is None else allowance.state


async def lent(shop: Premises) -> None:
    await shop.ask(balance())
    await until(lambda: state(shop) is AllowanceState.GRANTED)


def ops(shop: Premises) -> list[Message]:
    return [decode(item.message).op for item in shop.headquarters.asked]  # type: ignore[union-attr]


async def test_a_card_that_was_seen_gets_an_allowance_that_is_spent_off_line_and_captured(shop: Premises) -> None:
    await lent(shop)
    assert shop.headquarters.balances[TOKEN] == 300
    shop.line.up = False
    spent = redeem(400)
    heard = await shop.ask(spent)
    assert (heard.outcome, heard.answer.points, heard.answer.balance) == (Outcome.APPROVED, 400, None)
    await shop.drained()
    assert shop.headquarters.balances[TOKEN] == 400
    assert not shop.headquarters.held
    assert state(shop) is None
    again = await shop.ask(spent)
    assert (again.body, again.replayed) == (heard.body, True)


async def test_one_allowance_pays_for_one_redemption_however_many_ask_at_once(shop: Premises) -> None:
    await lent(shop)
    shop.line.up = False
    asked = [shop.hand_over(redeem(100)) for _ in range(5)]
    outcomes = [(await asyncio.wait_for(each.heard, 20)).outcome for each in asked]
    assert sorted(outcomes) == [Outcome.APPROVED] + [Outcome.OFFLINE] * 4
    await shop.drained()
    assert shop.headquarters.balances[TOKEN] == 700


@pytest.mark.parametrize(
    "refused",
    [redeem(501), SaleRequest(b"s" * 16, 0, CARD, Receipt(1_000, "EUR", ""), 10)],
    ids=["more than reserved", "not a redemption"],
)
async def test_what_an_allowance_does_not_cover_is_declined(shop: Premises, refused: Any) -> None:
    await lent(shop)
    shop.line.up = False
    assert (await shop.ask(refused)).outcome == Outcome.OFFLINE
    assert (await shop.ask(redeem(50, amount=0))).outcome == Outcome.APPROVED


@pytest.mark.parametrize(
    ("refused", "outcome"),
    [
        (redeem(99), Outcome.BELOW_MINIMUM),
        (redeem(301), Outcome.ABOVE_MAXIMUM),
        (redeem(300, amount=599), Outcome.ABOVE_SHARE),
        (redeem(100, amount=0), Outcome.ABOVE_SHARE),
    ],
)
async def test_the_rules_of_the_network_hold_off_line(shop: Premises, refused: Any, outcome: Outcome) -> None:
    shop.roster = LENDING._replace(rules=RedeemRules(100, 300, 5_000))
    await lent(shop)
    shop.line.up = False
    assert (await shop.ask(refused)).outcome == outcome
    assert (await shop.ask(redeem(300, amount=600))).outcome == Outcome.APPROVED


@pytest.mark.parametrize("clock", ["over", "behind", "unknown"])
async def test_an_allowance_is_worth_nothing_outside_its_time(shop: Premises, clock: str) -> None:
    await lent(shop)
    shop.line.up = False
    if clock == "over":
        shop.headquarters.now_ms += LENDING.allowance_ms
    elif clock == "behind":
        shop.headquarters.now_ms = NOW_MS - 1
    else:
        shop.line.knows_time = False
    assert (await shop.ask(redeem(10))).outcome == Outcome.OFFLINE
    shop.headquarters.now_ms, shop.line.knows_time = NOW_MS + LENDING.allowance_ms - 1, True
    assert (await shop.ask(redeem(10))).outcome == Outcome.APPROVED


async def test_a_clock_set_back_across_a_restart_is_seen(shop: Premises) -> None:
    await lent(shop)
    shop.headquarters.now_ms = NOW_MS + 3_600_000
    shop.allowances._look.set()
    await until(lambda: shop.store.kept(allowances._SEEN) == shop.headquarters.now_ms.to_bytes(8))
    shop.line.up = False
    await shop.reopen()
    shop.headquarters.now_ms -= 1
    assert (await shop.ask(redeem(10))).outcome == Outcome.OFFLINE
    shop.headquarters.now_ms += 1
    assert (await shop.ask(redeem(10))).outcome == Outcome.APPROVED


async def test_on_line_the_allowance_is_let_go_first_so_that_all_points_can_be_spent(shop: Premises) -> None:
    await lent(shop)
    before = len(shop.headquarters.asked)
    assert (await shop.ask(redeem(800))).outcome == Outcome.APPROVED
    assert ops(shop)[before : before + 2] == [Message.RELEASE, Message.REDEEM]
    await until(lambda: state(shop) is None)


async def test_what_a_redemption_took_in_the_moment_when_it_should_be_let_go_is_not_let_go(shop: Premises) -> None:
    await lent(shop)
    shop.headquarters.now_ms += LENDING.allowance_ms - 1
    spent = shop.hand_over(redeem(100))
    shop.line.up = False
    allowance = shop.allowances.of(shop.card())
    assert allowance is not None
    assert (await asyncio.wait_for(spent.heard, 20)).outcome == Outcome.APPROVED
    shop.line.up = True
    await shop.allowances._let_go(allowance)
    assert Message.RELEASE not in ops(shop)
    await shop.drained()
    assert shop.headquarters.balances[TOKEN] == 700


async def test_an_allowance_let_go_twice_does_not_take_the_next_one_with_it(shop: Premises) -> None:
    await lent(shop)
    release = await shop.allowances.release_before(shop.card())
    assert release is not None
    reply = await shop.line.ask(release.item, 1.0)
    await shop.allowances.released(release, reply)
    await lent(shop)
    await shop.allowances.released(release, reply)
    assert state(shop) is AllowanceState.GRANTED
    assert len(await shop.store.allowances()) == 1


async def test_after_a_spending_on_line_what_is_left_is_set_aside_anew(shop: Premises) -> None:
    await lent(shop)
    await shop.ask(redeem(100))
    await until(lambda: state(shop) is AllowanceState.GRANTED)
    assert shop.headquarters.balances[TOKEN] == 200
    assert len(shop.headquarters.held) == 1


async def test_what_may_have_been_let_go_is_not_spent_although_the_answer_was_lost(shop: Premises) -> None:
    await lent(shop)

    def lost(item: RequestItem) -> None:
        # As headquarters sees it the RELEASE is done; the relay hears nothing of it, nor of what came with it.
        if decode(item.message).op == Message.RELEASE:  # type: ignore[union-attr]
            shop.headquarters.answer(item)
        raise NoReply

    shop.line.before = lost
    assert (await shop.ask(redeem(10))).error == ErrorCode.UNAVAILABLE
    shop.line.up = False
    for _ in range(2):
        assert (await shop.ask(redeem(10))).outcome == Outcome.OFFLINE
        await shop.reopen()
    assert state(shop) is AllowanceState.RELEASING
    shop.line.before, shop.line.up = lambda _: None, True
    shop.start(shop.allowances.run())
    await until(lambda: state(shop) is None)
    assert shop.headquarters.balances[TOKEN] == 800


async def test_if_it_cannot_be_written_that_it_is_let_go_the_release_does_not_leave(
    shop: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lent(shop)

    async def fails(_: object) -> None:
        raise StoreFailed("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(shop.store, "change_allowance", fails)
        await shop.ask(redeem(10))
        assert Message.RELEASE not in ops(shop)
        shop.line.up = False
        assert (await shop.ask(redeem(10))).outcome == Outcome.OFFLINE


async def test_a_hold_whose_answer_was_lost_is_asked_for_again_under_its_id(
    shop: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowances, "_TTL_MS", 20)

    def lost(item: RequestItem) -> None:
        if decode(item.message).op == Message.HOLD:  # type: ignore[union-attr]
            shop.headquarters.answer(item)
            raise NoReply

    shop.line.before = lost
    await shop.ask(balance())
    await until(lambda: shop.headquarters.held)
    assert state(shop) is AllowanceState.ASKED
    shop.line.up = False
    assert (await shop.ask(redeem(10))).outcome == Outcome.OFFLINE, "not known to be set aside"
    await shop.reopen()
    shop.line.before, shop.line.up = lambda _: None, True
    shop.start(shop.allowances.run())
    await until(lambda: state(shop) is AllowanceState.GRANTED)
    assert len(shop.headquarters.held) == 1
    assert shop.headquarters.balances[TOKEN] == 300


async def test_a_hold_in_doubt_is_let_go_when_leave_for_it_was_withdrawn(
    shop: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowances, "_TTL_MS", 20)

    def lost(item: RequestItem) -> None:
        if decode(item.message).op == Message.HOLD:  # type: ignore[union-attr]
            shop.headquarters.answer(item)
            raise NoReply

    shop.line.before = lost
    await shop.ask(balance())
    await until(lambda: shop.headquarters.held)
    shop.line.before = lambda _: None
    shop.headquarters.lends_max, shop.roster = 499, LENDING._replace(allowance_points=499)
    shop.allowances._look.set()
    await until(lambda: state(shop) is None)
    assert shop.headquarters.balances[TOKEN] == 800
    assert not shop.headquarters.held


async def test_nothing_is_set_aside_without_leave_or_points(shop: Premises) -> None:
    shop.roster = ROSTER
    await shop.ask(balance())
    shop.roster = LENDING
    shop.headquarters.balances[TOKEN] = 0
    await shop.ask(balance())
    await asyncio.sleep(0.05)
    assert Message.HOLD not in ops(shop)


async def test_leave_that_is_withdrawn_gives_everything_back(shop: Premises) -> None:
    await lent(shop)
    shop.roster = ROSTER
    shop.allowances._look.set()
    await until(lambda: state(shop) is None)
    assert shop.headquarters.balances[TOKEN] == 800


async def test_an_allowance_whose_time_is_over_is_given_back(shop: Premises) -> None:
    await lent(shop)
    shop.headquarters.now_ms += LENDING.allowance_ms
    shop.allowances._look.set()
    await until(lambda: state(shop) is None)
    assert shop.headquarters.balances[TOKEN] == 800


async def test_a_redemption_that_headquarters_had_done_already_gives_its_allowance_back(shop: Premises) -> None:
    await lent(shop)
    spent = redeem(100)
    shop.line.before = lambda item: None
    # Another way to headquarters, of which this relay knows nothing.
    shop.headquarters.answer(RequestItem("till-1", stored_message(spent)))
    shop.line.up = False
    assert (await shop.ask(spent)).outcome == Outcome.APPROVED
    await shop.drained()
    await until(lambda: state(shop) is None)
    assert shop.headquarters.balances[TOKEN] == 700
    assert not shop.headquarters.held
    assert shop.store.conflicts == 0


async def test_a_redemption_in_doubt_is_not_taken_out_of_an_allowance(shop: Premises) -> None:
    spent = redeem(100)
    shop.line.silent = True
    assert (await shop.ask(spent)).error == ErrorCode.UNAVAILABLE
    shop.line.silent = False
    await lent(shop)
    shop.line.up = False
    assert (await shop.ask(spent)).outcome == Outcome.OFFLINE
    assert (await shop.ask(redeem(100))).outcome == Outcome.APPROVED


async def test_a_redemption_out_of_an_allowance_can_be_reversed_before_headquarters_hears_of_it(
    shop: Premises,
) -> None:
    await lent(shop)
    shop.line.up = False
    spent = redeem(100)
    await shop.ask(spent)
    assert (await shop.ask(reverse(spent))).outcome == Outcome.APPROVED
    assert (await shop.ask(redeem(100))).outcome == Outcome.OFFLINE, "one redemption for an allowance"
    await shop.drained()
    assert shop.headquarters.balances[TOKEN] == 800
    assert not shop.headquarters.held


async def test_an_allowance_that_could_not_be_spent_because_of_the_disk_is_still_there(
    shop: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lent(shop)
    shop.line.up = False

    async def fails(_: object) -> None:
        raise StoreFailed("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(shop.store, "take", fails)
        assert (await shop.ask(redeem(10))).error == ErrorCode.UNAVAILABLE
    assert (await shop.ask(redeem(10))).outcome == Outcome.APPROVED
