"""REFUND, REVERSE and STATUS through the whole ledger, in every order; the fixture proves the books at the end."""

import asyncio
import os
import random

import msgpack
import pytest

from ledger.operations import Operation, Outcome
from ledger.submission import Refusal
from ledger.truth import Standing
from tests.rigs.ledger_rig import Clock, Reply, Rig


def standing(reply: Reply) -> Standing:
    return Standing(reply.detail[0])


async def test_refunds_end_when_the_original_is_used_up_blnk_152_eventyay_2824(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        sale = rig.submission(Operation.SALE, 1, points=333, amount=1000)
        assert (await rig.ask(ledger, sale)).earned == 33
        parts = [await rig.do(ledger, Operation.REFUND, 1, target=sale.request_id, amount=300) for _ in range(4)]
        rest = await rig.do(ledger, Operation.REFUND, 1, target=sale.request_id)
        over = await rig.do(ledger, Operation.REFUND, 1, target=sale.request_id)
        outcomes = [part.outcome for part in (*parts, rest, over)]
        assert outcomes == [0, 0, 0, Outcome.REFUND_EXCEEDS, 0, Outcome.REFUND_EXCEEDS]
        assert sum(part.points for part in (*parts, rest)) == 333
        assert sum(part.earned for part in (*parts, rest)) == -33
        assert await rig.available(ledger, 1) == 1000


async def test_a_dozen_refunds_at_once_are_all_decided_and_give_back_no_more_than_was_spent_odoo_257854(
    rig: Rig,
) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=1000, amount=1000)
        await rig.ask(ledger, redeem)
        refunds = [rig.do(ledger, Operation.REFUND, 1, target=redeem.request_id, amount=90) for _ in range(15)]
        replies = await asyncio.gather(*refunds)
        assert sorted(str(reply.outcome) for reply in replies) == ["0"] * 11 + ["114"] * 4
        assert await rig.available(ledger, 1) == 990


async def test_a_repeated_refund_replays_and_does_not_undo_the_first_blnk_374(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=1000, amount=1000)
        await rig.ask(ledger, redeem)
        refund = rig.submission(Operation.REFUND, 1, target=redeem.request_id, amount=400)
        first = await rig.ask(ledger, refund)
        again = await rig.ask(ledger, refund)
        assert (again.body, again.replayed) == (first.body, True)
        assert await rig.available(ledger, 1) == 400


async def test_refunding_an_earn_takes_the_points_back_or_makes_them_owed_erpnext_32951(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earn = await rig.give(ledger, 1, 1000)
        await rig.do(ledger, Operation.REDEEM, 1, points=900)
        refund = await rig.do(ledger, Operation.REFUND, 1, target=earn.request_id)
        assert (refund.earned, refund.balance) == (-1000, [0, 0, 0, 900, 0, 0])
        await rig.do(ledger, Operation.EARN, 1, amount=20_000)
        assert (await rig.do(ledger, Operation.BALANCE, 1)).balance == [100, 0, 0, 0, 0, 0]


async def test_refunds_of_what_cannot_be_refunded_name_the_reason(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=10)
        redeem = rig.submission(Operation.REDEEM, 1, points=10)
        for submission in (hold, redeem):
            await rig.ask(ledger, submission)

        async def refund(card: int, target: bytes, **fields: object) -> int | None:
            return (await rig.do(ledger, Operation.REFUND, card, target=target, **fields)).outcome

        assert await refund(1, os.urandom(16)) == Outcome.ORIGINAL_UNKNOWN
        assert await refund(1, hold.request_id) == Outcome.ORIGINAL_UNSUITABLE
        assert await refund(2, redeem.request_id) == Outcome.ORIGINAL_OTHER_CARD
        assert await refund(1, redeem.request_id, partner_id=rig.partner_id + 1) == Outcome.NOT_PERMITTED
        await rig.do(ledger, Operation.REVERSE, 1, target=redeem.request_id)
        assert await refund(1, redeem.request_id) == Outcome.ORIGINAL_REVERSED


# ---- reversals


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_order_a_reversed_request_does_not_stand_punchh(rig: Rig, seed: int) -> None:
    """The original, its retries and its reversals in any order, all at once: afterwards the points are there."""
    order = random.Random(seed)  # noqa: S311 - it only shuffles
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        for op in (Operation.REDEEM, Operation.HOLD, Operation.SALE):
            original = rig.submission(op, 1, points=300, amount=900)
            reverse = rig.submission(Operation.REVERSE, 1, target=original.request_id)
            another = rig.submission(Operation.REVERSE, 1, target=original.request_id)
            sent = [original, original, reverse, reverse, another]
            order.shuffle(sent)
            replies = await asyncio.gather(*(rig.ask(ledger, submission) for submission in sent))
            reversals = [r for s, r in zip(sent, replies, strict=True) if s.op == Operation.REVERSE]
            assert all(reply.outcome == Outcome.APPROVED for reply in reversals)
            assert await rig.available(ledger, 1) == 1000
            assert (await rig.ask(ledger, original)).replayed
            assert await rig.available(ledger, 1) == 1000


async def test_reversing_a_refund_takes_back_what_it_gave(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=1000, amount=1000)
        await rig.ask(ledger, redeem)
        refund = rig.submission(Operation.REFUND, 1, target=redeem.request_id, amount=400)
        await rig.ask(ledger, refund)
        await rig.do(ledger, Operation.REVERSE, 1, target=refund.request_id)
        assert await rig.available(ledger, 1) == 0
        assert (await rig.do(ledger, Operation.REFUND, 1, target=redeem.request_id)).points == 1000


async def test_a_capture_undone_with_its_hold_is_not_given_back_a_second_time_odoo_221928(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=600, amount=600)
        capture = rig.submission(Operation.CAPTURE, 1, target=hold.request_id, amount=600)
        for submission in (hold, capture):
            assert (await rig.ask(ledger, submission)).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=hold.request_id)).points == 600
        again = await rig.do(ledger, Operation.REVERSE, 1, target=capture.request_id)
        refund = await rig.do(ledger, Operation.REFUND, 1, target=capture.request_id)
        assert (again.outcome, again.points) == (Outcome.APPROVED, 0)
        assert refund.outcome == Outcome.ORIGINAL_REVERSED
        assert await rig.available(ledger, 1) == 1000
        status = await rig.do(ledger, Operation.STATUS, 1, target=capture.request_id)
        assert standing(status) == Standing.REVERSED


async def test_a_refund_undone_with_its_sale_is_not_taken_a_second_time(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=600, amount=600)
        refund = rig.submission(Operation.REFUND, 1, target=redeem.request_id, amount=200)
        for submission in (redeem, refund):
            await rig.ask(ledger, submission)
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=redeem.request_id)).points == 400
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=refund.request_id)).points == 0
        assert await rig.available(ledger, 1) == 1000


async def test_points_that_expired_as_they_came_in_are_not_owed_when_the_sale_is_reversed(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        today = ledger.today()
        late = rig.submission(Operation.EARN, 1, amount=20_000, active_day=today - 9, expiry_day=today - 2)
        earned = await rig.ask(ledger, late)
        assert (earned.earned, earned.balance) == (1000, [0, 0, 0, 0, 0, 0])
        reversed_ = await rig.do(ledger, Operation.REVERSE, 1, target=late.request_id)
        assert (reversed_.earned, reversed_.balance) == (-1000, [0, 0, 0, 0, 0, 0])


async def test_a_reversal_by_another_card_or_partner_is_declined(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earn = await rig.give(ledger, 1, 1000)
        other_card = await rig.do(ledger, Operation.REVERSE, 2, target=earn.request_id)
        stranger = await rig.do(ledger, Operation.REVERSE, 1, target=earn.request_id, partner_id=rig.partner_id + 1)
        block = rig.submission(Operation.BLOCK, 1)
        await rig.ask(ledger, block)
        unsuitable = await rig.do(ledger, Operation.REVERSE, 1, target=block.request_id)
        assert [other_card.outcome, stranger.outcome, unsuitable.outcome] == [
            Outcome.ORIGINAL_OTHER_CARD, Outcome.NOT_PERMITTED, Outcome.ORIGINAL_UNSUITABLE
        ]  # fmt: skip


async def test_a_tombstone_on_one_card_stops_the_id_on_every_card(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        late = os.urandom(16)
        await rig.do(ledger, Operation.REVERSE, 1, target=late)
        reply = await rig.do(ledger, Operation.EARN, 2, amount=20_000, request_id=late)
        assert reply.refusal is Refusal.ID_REUSED
        assert await rig.available(ledger, 2) == 0


async def test_thirty_reversals_of_different_requests_at_once_are_all_decided(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        asked = [rig.submission(Operation.REDEEM, 1, points=10) for _ in range(30)]
        await asyncio.gather(*(rig.ask(ledger, submission) for submission in asked))
        undone = [rig.do(ledger, Operation.REVERSE, 1, target=submission.request_id) for submission in asked]
        assert {reply.outcome for reply in await asyncio.gather(*undone)} == {Outcome.APPROVED}
        assert await rig.available(ledger, 1) == 1000


# ---- status


async def test_status_tells_every_standing_blnk_293(rig: Rig) -> None:
    clock = Clock()
    async with rig.ledger(clock=clock) as ledger:
        await rig.give(ledger, 1, 10_000)

        async def told(submission_id: bytes, card: int = 1) -> Standing:
            return standing(await rig.do(ledger, Operation.STATUS, card, target=submission_id))

        async def done(op: Operation, **fields: object) -> bytes:
            submission = rig.submission(op, 1, **fields)
            assert (await rig.ask(ledger, submission)).outcome == Outcome.APPROVED
            return submission.request_id

        assert await told(os.urandom(16)) == Standing.UNKNOWN
        redeem = await done(Operation.REDEEM, points=100, amount=100)
        assert await told(redeem) == Standing.STANDS
        refund = await done(Operation.REFUND, target=redeem, amount=40)
        assert await told(redeem) == Standing.REFUNDED
        assert await told(refund) == Standing.STANDS
        reverse = await done(Operation.REVERSE, target=redeem)
        assert await told(redeem) == Standing.REVERSED
        assert await told(refund) == Standing.REVERSED
        assert await told(reverse) == Standing.STANDS
        held = [await done(Operation.HOLD, points=100, hold_ms=60_000) for _ in range(4)]
        assert {await told(hold) for hold in held} == {Standing.HELD}
        await done(Operation.CAPTURE, target=held[0])
        await done(Operation.RELEASE, target=held[1])
        await done(Operation.REVERSE, target=held[2])
        clock.ms += 60_001
        states = [await told(hold) for hold in held]
        assert states == [Standing.CAPTURED, Standing.RELEASED, Standing.REVERSED, Standing.EXPIRED]
        await rig.until_journaled(1, Operation.EXPIRE_HOLD)
        assert await told(held[3]) == Standing.EXPIRED
        late = os.urandom(16)
        await done(Operation.REVERSE, target=late)
        assert await told(late) == Standing.REVERSED


async def test_status_carries_the_stored_answer_and_nothing_for_strangers(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earn = rig.submission(Operation.EARN, 1, amount=20_000)
        first = await rig.ask(ledger, earn)
        status = await rig.do(ledger, Operation.STATUS, 1, target=earn.request_id)
        assert status.detail == [Standing.STANDS, first.body]
        assert msgpack.unpackb(status.detail[1])[2] == 1000
        stranger = rig.submission(Operation.STATUS, 1, target=earn.request_id, partner_id=rig.partner_id + 1)
        assert (await rig.ask(ledger, stranger)).outcome == Outcome.NOT_PERMITTED
        other_card = await rig.do(ledger, Operation.STATUS, 2, target=earn.request_id)
        assert other_card.outcome == Outcome.ORIGINAL_OTHER_CARD
        unknown_card = await rig.do(ledger, Operation.STATUS, 99, target=earn.request_id)
        assert unknown_card.outcome == Outcome.UNKNOWN_CARD


async def test_status_sent_together_with_its_request_tells_the_truth(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        for _ in range(20):
            earn = rig.submission(Operation.EARN, 1, amount=20)
            earned, status = await asyncio.gather(
                rig.ask(ledger, earn), rig.do(ledger, Operation.STATUS, 1, target=earn.request_id)
            )
            assert status.detail == [Standing.STANDS, earned.body]
