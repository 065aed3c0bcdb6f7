"""Earning, spending and holding through the whole ledger; the fixture proves the books at the end."""

import asyncio
import os
from dataclasses import replace

import redis

from ledger.operations import Operation, Outcome
from ledger.programme import Rules
from ledger.submission import Refusal
from tests.rigs.ledger_rig import Clock, Rig

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


async def test_64_tasks_racing_for_few_points_never_overspend_opensourcepos_4640(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        replies = await asyncio.gather(*(rig.do(ledger, Operation.REDEEM, 1, points=70) for _ in range(64)))
        assert sorted(reply.outcome for reply in replies) == [Outcome.APPROVED] * 14 + [Outcome.INSUFFICIENT] * 50
        assert await rig.available(ledger, 1) == 20


async def test_two_tills_at_once_get_one_redemption_of_the_last_points_medusa_16347(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        for card in range(10):
            await rig.give(ledger, card, 500)
        pairs = [rig.do(ledger, Operation.REDEEM, card, points=500) for card in range(10) for _ in range(2)]
        outcomes = [reply.outcome for reply in await asyncio.gather(*pairs)]
        assert all({*outcomes[i : i + 2]} == {Outcome.APPROVED, Outcome.INSUFFICIENT} for i in range(0, 20, 2))


async def test_a_sale_spends_and_earns_on_what_was_paid_in_money(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 5000)
        sale = await rig.do(ledger, Operation.SALE, 1, points=3000, amount=10_000)
        assert (sale.outcome, sale.points, sale.earned) == (Outcome.APPROVED, 3000, 350)
        assert sale.balance == [2350, 0, 0, 0, 0, 0]


async def test_a_partial_redemption_takes_what_there_is_odoo_153541(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 26_828)
        redeem = await rig.do(ledger, Operation.REDEEM, 1, points=30_000, partial=True)
        assert (redeem.outcome, redeem.points) == (Outcome.APPROVED_PARTIAL, 26_828)
        assert await rig.available(ledger, 1) == 0


async def test_points_of_the_future_cannot_be_spent_and_those_of_the_past_expire(rig: Rig) -> None:
    clock = Clock()
    today = clock.ms // DAY_MS
    async with rig.ledger(clock=clock) as ledger:
        days = Rules(valid_from_ms=0, activation_days=2, expiry_days=5).earning_days(today)
        await rig.do(ledger, Operation.EARN, 1, amount=20_000, active_day=days[0], expiry_day=days[1])
        early = await rig.do(ledger, Operation.REDEEM, 1, points=100)
        assert (early.outcome, early.balance) == (Outcome.INSUFFICIENT, [0, 0, 1000, 0, 0, 0])
        clock.ms += 2 * DAY_MS
        spent = await rig.do(ledger, Operation.REDEEM, 1, points=100)
        assert (spent.outcome, spent.balance) == (Outcome.APPROVED, [900, 0, 0, 0, 900, days[1]])
        # Lots become entries an hour after their last day, and this day may be younger than that.
        clock.ms += 4 * DAY_MS + DAY_MS // 12
        assert await rig.available(ledger, 1) == 0
        expired = await rig.until_journaled(1, Operation.EXPIRE_LOTS)
        assert (expired["points"], expired["balance_after"]) == (-900, 0)


async def test_daily_limits_of_an_account_hold_over_several_redemptions_medusa_16012(rig: Rig) -> None:
    clock = Clock()
    terms = Rules(valid_from_ms=0, earn_rate_bp=500, day_points_max=1000, day_count_max=3).terms
    async with rig.ledger(clock=clock) as ledger:
        await rig.give(ledger, 1, 5000)
        asked = [rig.submission(Operation.REDEEM, 1, points=points, terms=terms) for points in (600, 500, 300, 50, 50)]
        outcomes = [(await rig.ask(ledger, submission)).outcome for submission in asked]
        assert outcomes == [Outcome.APPROVED, Outcome.ACCOUNT_LIMIT, Outcome.APPROVED, Outcome.APPROVED,
                            Outcome.ACCOUNT_LIMIT]  # fmt: skip
        clock.ms += DAY_MS
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=600, terms=terms)).outcome == Outcome.APPROVED


async def test_a_reversed_redemption_gives_the_points_of_the_day_back(rig: Rig) -> None:
    terms = Rules(valid_from_ms=0, day_points_max=1000).terms
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 5000)
        redeem = rig.submission(Operation.REDEEM, 1, points=1000, terms=terms)
        assert (await rig.ask(ledger, redeem)).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=redeem.request_id)).points == 1000
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1000, terms=terms)).outcome == Outcome.APPROVED


async def test_a_reversed_capture_gives_the_points_of_the_day_of_its_hold_back(rig: Rig) -> None:
    terms = Rules(valid_from_ms=0, day_points_max=1000).terms
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 5000)
        hold = rig.submission(Operation.HOLD, 1, points=1000, terms=terms)
        await rig.ask(ledger, hold)
        capture = rig.submission(Operation.CAPTURE, 1, target=hold.request_id)
        assert (await rig.ask(ledger, capture)).points == 1000
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=capture.request_id)).points == 1000
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1000, terms=terms)).outcome == Outcome.APPROVED


async def test_what_limited_terminals_spend_is_summed_in_the_journal(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        today = ledger.today()
        await asyncio.gather(*(rig.give(ledger, card, 500) for card in range(4)))
        spent = [rig.do(ledger, Operation.REDEEM, card, points=100, limited_day=today) for card in range(4)]
        await asyncio.gather(*spent, rig.do(ledger, Operation.REDEEM, 1, points=9999, limited_day=today))
        await rig.do(ledger, Operation.HOLD, 1, points=70, limited_day=today)
        await rig.do(ledger, Operation.REDEEM, 2, points=5)
        assert await ledger.terminal_spent_today(rig.terminal_id) == 470
        over = await rig.do(ledger, Operation.REDEEM, 3, points=31, terminal_room=30, limited_day=today)
        assert over.outcome == Outcome.TERMINAL_LIMIT


# ---- holds


async def test_a_hold_is_captured_once_and_in_part_blnk_62(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=600, amount=5000)
        assert (await rig.ask(ledger, hold)).balance == [400, 600, 0, 0, 0, 0]
        over = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id, points=601)
        captured = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id, points=250)
        again = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id)
        assert (over.outcome, captured.outcome, again.outcome) == (
            Outcome.CAPTURE_EXCEEDS, Outcome.APPROVED, Outcome.HOLD_CLOSED
        )  # fmt: skip
        assert captured.balance == [750, 0, 0, 0, 0, 0]


async def test_a_released_hold_cannot_be_captured_nor_released_again_blnk_182_blnk_41(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=600)
        await rig.ask(ledger, hold)
        released = await rig.do(ledger, Operation.RELEASE, 1, target=hold.request_id)
        captured = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id)
        again = await rig.do(ledger, Operation.RELEASE, 1, target=hold.request_id)
        assert (released.outcome, released.points) == (Outcome.APPROVED, 600)
        assert captured.outcome == again.outcome == Outcome.HOLD_CLOSED
        assert await rig.available(ledger, 1) == 1000


async def test_a_race_of_captures_and_releases_has_one_winner(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=600)
        await rig.ask(ledger, hold)
        ends = [rig.do(ledger, op, 1, target=hold.request_id) for op in (Operation.CAPTURE, Operation.RELEASE) * 6]
        outcomes = [reply.outcome for reply in await asyncio.gather(*ends)]
        assert sorted(outcomes) == [Outcome.APPROVED] + [Outcome.HOLD_CLOSED] * 11


async def test_a_hold_of_nobody_and_of_another_card_are_told_apart(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=600)
        await rig.ask(ledger, hold)
        unknown = await rig.do(ledger, Operation.CAPTURE, 1, target=os.urandom(16))
        foreign = await rig.do(ledger, Operation.CAPTURE, 2, target=hold.request_id)
        stranger = await rig.do(ledger, Operation.RELEASE, 1, target=hold.request_id, partner_id=rig.partner_id + 1)
        assert unknown.outcome == Outcome.HOLD_UNKNOWN
        assert foreign.outcome == Outcome.ORIGINAL_OTHER_CARD
        assert stranger.outcome == Outcome.NOT_PERMITTED


async def test_a_hold_expires_by_postgresql_although_redis_was_flushed_blnk_336(rig: Rig) -> None:
    clock = Clock()
    async with rig.ledger(clock=clock) as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=600, hold_ms=60_000)
        assert (await rig.ask(ledger, hold)).detail == clock.ms + 60_000
        with redis.Redis.from_url(rig.redis_url) as client:
            client.flushall()
        clock.ms += 60_001
        expired = await rig.until_journaled(1, Operation.EXPIRE_HOLD)
        assert (expired["held"], expired["target"]) == (-600, hold.request_id)
        assert (await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id)).outcome == Outcome.HOLD_EXPIRED
        assert await rig.available(ledger, 1) == 1000


async def test_holds_that_run_out_one_after_the_other_all_expire(rig: Rig) -> None:
    clock = Clock()
    async with rig.ledger(clock=clock) as ledger:
        await rig.give(ledger, 1, 1000)
        for minutes in (1, 2, 3):
            await rig.do(ledger, Operation.HOLD, 1, points=100, hold_ms=minutes * 60_000)
        for held_after in (200, 100, 0):
            clock.ms += 60_001
            async with asyncio.timeout(30):
                while (await rig.journal(1))[-1]["held_after"] != held_after:
                    await asyncio.sleep(0.05)
        async with rig.database() as connection:
            assert await connection.fetchval("SELECT count(*) FROM account WHERE due_ms IS NOT NULL") == 0


# ---- replays


async def test_a_replay_older_than_the_ring_gets_the_stored_bytes_odoo_242087(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 100_000)
        redeem = rig.submission(Operation.REDEEM, 1, points=700)
        first = await rig.ask(ledger, redeem)
        for _ in range(12):
            await rig.do(ledger, Operation.REDEEM, 1, points=10)
        again = await rig.ask(ledger, redeem)
        assert (again.body, again.replayed) == (first.body, True)
        assert await rig.available(ledger, 1) == 99_180
        other = replace(redeem, points=800, fingerprint=b"other...")
        assert (await rig.ask(ledger, other)).refusal is Refusal.ID_REUSED


async def test_a_replay_older_than_the_ring_that_would_be_declined_today_is_still_approved(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=900)
        first = await rig.ask(ledger, redeem)
        for _ in range(10):
            await rig.do(ledger, Operation.REDEEM, 1, points=10)
        await rig.do(ledger, Operation.BLOCK, 1)
        again = await rig.ask(ledger, redeem)
        assert (again.body, again.replayed) == (first.body, True)
        assert await rig.available(ledger, 1) == 0


async def test_the_same_earn_sent_many_times_at_once_earns_once_oca_pos_185(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earn = rig.submission(Operation.EARN, 1, amount=20_000)
        replies = await asyncio.gather(*(rig.ask(ledger, earn) for _ in range(20)))
        assert {reply.body for reply in replies} == {replies[0].body}
        assert sorted(reply.replayed for reply in replies) == [False] + [True] * 19
        assert await rig.available(ledger, 1) == 1000


async def test_an_id_used_for_two_accounts_at_once_has_one_effect_formance_stack_1464(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        request_id = os.urandom(16)
        replies = await asyncio.gather(
            *(rig.do(ledger, Operation.EARN, card, amount=20_000, request_id=request_id) for card in range(10))
        )
        assert sorted(reply.refusal is Refusal.ID_REUSED for reply in replies) == [False] + [True] * 9
        assert sum([await rig.available(ledger, card) for card in range(10)]) == 1000


async def test_a_declined_id_may_be_used_again_because_it_left_no_effect(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        redeem = rig.submission(Operation.REDEEM, 1, points=700)
        assert (await rig.ask(ledger, redeem)).outcome == Outcome.INSUFFICIENT
        await rig.give(ledger, 1, 1000)
        assert (await rig.ask(ledger, redeem)).outcome == Outcome.APPROVED
