"""Two accounts become one by two entries, and nothing that a register was told before becomes untrue."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ledger.journal.statements import statement
from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.operator_desk import Undecided
from ledger.submission import Refusal
from ledger.truth import Standing
from tests.rigs.ledger_rig import LIMITS, Rig, token_of
from tests.rigs.operator_rig import account_of, balance_of, cards_of, desk_at, merge, new_card, new_id, reply

ISSUED_CARD, PHONE = 10, 77
MERGED = (Outcome.APPROVED, Outcome.APPROVED)


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=6, issued=6)
    yield rig
    assert (await rig.verify()).merging == 0


async def merged(rig: Rig, ledger: Ledger, source: int, target: int) -> tuple[int, int]:
    """Merge the accounts of two cards; return the accounts."""
    accounts = await account_of(rig, source), await account_of(rig, target)
    assert tuple(each.outcome for each in await merge(ledger, *accounts)) == MERGED
    return accounts


async def test_points_debts_and_cards_of_both_are_one(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, today = desk_at(ledger), ledger.today()
        await rig.give(ledger, 1, 1000)
        await desk.adjust(new_id(), await account_of(rig, 1), 70, today + 30, "")
        await rig.do(ledger, Operation.EARN, 1, amount=1000, active_day=today + 5, expiry_day=today + 9)
        await desk.link(new_id(), await account_of(rig, 1), new_card(PHONE))
        await desk.block(new_id(), token_of(PHONE))
        await desk.adjust(new_id(), await account_of(rig, 2), -25, 0, "")
        await rig.give(ledger, 2, 5)
        source, target = await merged(rig, ledger, 1, 2)
        assert await balance_of(rig, ledger, 2) == [1070, 0, 50, 20, 70, today + 30]
        assert await balance_of(rig, ledger, 1) == await balance_of(rig, ledger, 2)
        assert (await rig.do(ledger, Operation.REDEEM, PHONE, points=1)).outcome == Outcome.CARD_BLOCKED
        assert await cards_of(rig, source) == {}
        assert await cards_of(rig, target) == {
            token_of(1): (1, 1, "…1"), token_of(2): (1, 1, "…2"), token_of(PHONE): (2, 4, "…77")
        }  # fmt: skip


async def test_an_account_with_an_open_hold_is_not_merged(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=300, hold_ms=3_600_000)
        await rig.ask(ledger, hold)
        source = await account_of(rig, 1)
        declined = await reply(desk_at(ledger).merge_out(new_id(), source))
        assert declined.outcome == Outcome.TOO_MANY_HOLDS
        await desk_at(ledger).release(new_id(), source, hold.request_id)
        await merged(rig, ledger, 1, 2)
        assert await rig.available(ledger, 2) == 1000


async def test_what_was_given_up_comes_in_once(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        accounts = [await account_of(rig, card) for card in range(4)]
        await rig.give(ledger, 1, 1000)
        out_id = new_id()
        assert (await reply(desk.merge_out(out_id, accounts[1]))).outcome == Outcome.APPROVED
        for again in (desk.merge_out(new_id(), accounts[1]), desk.merge_in(new_id(), accounts[1], out_id)):
            assert (await reply(again)).outcome == Outcome.ACCOUNT_BLOCKED
        ins = await asyncio.gather(*(reply(desk.merge_in(new_id(), account, out_id)) for account in accounts[2:] * 2))
        assert sorted(each.outcome or 0 for each in ins) == [Outcome.APPROVED] + [Outcome.ORIGINAL_UNSUITABLE] * 3
        assert await rig.available(ledger, 1) == 1000
        unknown = await reply(desk.merge_in(new_id(), accounts[2], new_id()))
        assert unknown.outcome == Outcome.ORIGINAL_UNKNOWN


async def test_only_what_a_merge_gave_up_comes_in_and_only_where_the_account_is_active(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        earn = await rig.give(ledger, 1, 1000)
        source, target = await account_of(rig, 1), await account_of(rig, 2)
        assert (await reply(desk.merge_in(new_id(), target, earn.request_id))).outcome == Outcome.ORIGINAL_UNSUITABLE
        out_id, in_id = new_id(), new_id()
        await desk.merge_out(out_id, source)
        await desk.block_account(new_id(), target)
        assert (await reply(desk.merge_in(in_id, target, out_id))).outcome == Outcome.ACCOUNT_BLOCKED
        await desk.unblock_account(new_id(), target)
        assert (await reply(desk.merge_in(in_id, target, out_id))).outcome == Outcome.APPROVED


async def test_a_blocked_or_closed_account_gives_nothing_up(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        source, _ = await merged(rig, ledger, 1, 2)
        blocked = await account_of(rig, 3)
        await desk.block_account(new_id(), blocked)
        for account in (source, blocked):
            assert (await reply(desk.merge_out(new_id(), account))).outcome == Outcome.ACCOUNT_BLOCKED
        for asked in (
            desk.adjust(new_id(), source, 1, 0, ""), desk.link(new_id(), source, new_card(PHONE)),
            desk.block_account(new_id(), source), desk.unblock_account(new_id(), source),
        ):  # fmt: skip
            assert (await reply(asked)).outcome == Outcome.ACCOUNT_BLOCKED


async def test_between_the_two_entries_nothing_is_lost_whoever_dies(rig: Rig) -> None:
    out_id, in_id = new_id(), new_id()
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        source, target = await account_of(rig, 1), await account_of(rig, 2)
        out = await reply(desk_at(ledger).merge_out(out_id, source))
    verified = await rig.verify()
    assert (verified.merging, verified.balance) == (1000, 0)
    async with rig.ledger() as ledger:
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).outcome == Outcome.UNKNOWN_CARD
        again = await reply(desk_at(ledger).merge_out(out_id, source))
        assert (again.body, again.replayed) == (out.body, True)
        taken = await reply(desk_at(ledger).merge_in(in_id, target, out_id))
    async with rig.ledger() as ledger, rig.redis() as redis:
        await redis.flushall()
        again = await reply(desk_at(ledger).merge_in(in_id, target, out_id))
        assert (again.body, again.replayed) == (taken.body, True)
        assert await rig.available(ledger, 1) == 1000


async def test_a_merge_asked_with_other_content_is_refused(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        accounts = [await account_of(rig, card) for card in range(4)]
        out_id, in_id = new_id(), new_id()
        await desk.merge_out(out_id, accounts[1])
        await desk.merge_in(in_id, accounts[2], out_id)
        for asked in (
            desk.merge_out(out_id, accounts[3]), desk.merge_in(in_id, accounts[2], new_id()),
            desk.merge_out(out_id, accounts[1], "another reference"),
        ):  # fmt: skip
            with pytest.raises(Undecided) as refused:
                await asked
            assert refused.value.refusal == Refusal.ID_REUSED


async def history(rig: Rig, ledger: Ledger, card: int, *, forgotten: bool) -> list[Any]:
    """Return requests that were approved of a card's account, each with its answer."""
    earn = rig.submission(Operation.EARN, card, amount=20_000, expiry_day=ledger.today() + 50)
    redeem = rig.submission(Operation.REDEEM, card, points=400, amount=400)
    sale = rig.submission(Operation.SALE, card, points=100, amount=2_100)
    asked = [earn, redeem, sale]
    kept = [(each, await rig.ask(ledger, each)) for each in asked]
    assert {answer.outcome for _, answer in kept} == {Outcome.APPROVED}
    for _ in range(9 if forgotten else 0):
        await rig.give(ledger, card, 1)
    return kept


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("spent", [False, True])
async def test_a_retry_gets_its_answer_also_after_the_merge(rig: Rig, forgotten: bool, spent: bool) -> None:
    async with rig.ledger() as ledger:
        kept = await history(rig, ledger, 1, forgotten=forgotten)
        await merged(rig, ledger, 1, 2)
        if spent:
            # Then a retry would be declined for want of points if it were decided anew.
            await rig.do(ledger, Operation.REDEEM, 1, points=await rig.available(ledger, 1))
        for _ in range(2):
            for asked, answer in kept:
                again = await rig.ask(ledger, asked)
                assert (again.body, again.replayed) == (answer.body, True)
        other = replace(kept[0][0], fingerprint=b"something")
        assert (await rig.ask(ledger, other)).refusal == Refusal.ID_REUSED
        # Another member's card is no way to these answers.
        assert (await rig.ask(ledger, replace(kept[0][0], token=token_of(3)))).refusal == Refusal.ID_REUSED


async def test_between_the_two_entries_a_retry_gets_its_answer(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        kept = await history(rig, ledger, 1, forgotten=True)
        out_id = new_id()
        await desk_at(ledger).merge_out(out_id, await account_of(rig, 1))
        for asked, answer in kept:
            assert (await rig.ask(ledger, asked)).body == answer.body
        await desk_at(ledger).merge_in(new_id(), await account_of(rig, 2), out_id)


async def test_what_was_done_before_is_undone_where_the_points_are_now(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earn, redeem, sale = (asked for asked, _ in await history(rig, ledger, 1, forgotten=False))
        await merged(rig, ledger, 1, 2)
        assert await rig.available(ledger, 1) == 1000 - 400 - 100 + 100
        refunded = await rig.do(ledger, Operation.REFUND, 1, target=redeem.request_id, amount=100)
        assert (refunded.outcome, refunded.points) == (Outcome.APPROVED, 100)
        # The lot that the points came from expires when it did.
        assert (await balance_of(rig, ledger, 2))[4:] == [600, ledger.today() + 50]
    async with rig.ledger() as ledger:
        undone = await rig.do(ledger, Operation.REVERSE, 1, target=redeem.request_id)
        assert (undone.outcome, undone.points) == (Outcome.APPROVED, 300)
        again = await rig.do(ledger, Operation.REFUND, 1, target=redeem.request_id, amount=100)
        assert again.outcome == Outcome.ORIGINAL_REVERSED
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=sale.request_id)).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REVERSE, 2, target=earn.request_id)).earned == -1000
        assert (await balance_of(rig, ledger, 2))[:4] == [0, 0, 0, 0]
        other = await rig.do(ledger, Operation.REVERSE, 3, target=redeem.request_id)
        assert other.outcome == Outcome.ORIGINAL_OTHER_CARD


async def test_the_status_of_what_was_done_before_is_told(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        kept = await history(rig, ledger, 1, forgotten=False)
        await rig.give(ledger, 2, 10)
        await merged(rig, ledger, 1, 2)
        _, (redeem, answer), _ = kept

        async def status(card: int, target: bytes) -> Any:
            return await rig.do(ledger, Operation.STATUS, card, target=target)

        for card in (1, 2):
            told = await status(card, redeem.request_id)
            assert told.detail == [Standing.STANDS, answer.body]
        assert (await status(3, redeem.request_id)).outcome == Outcome.ORIGINAL_OTHER_CARD
        await rig.do(ledger, Operation.REVERSE, 2, target=redeem.request_id)
        assert (await status(1, redeem.request_id)).detail[0] == Standing.REVERSED


async def test_a_status_right_behind_its_request_waits_for_it_after_a_merge(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        await merged(rig, ledger, 1, 2)
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        asked, told = (
            rig.send(ledger, redeem),
            rig.send(ledger, rig.submission(Operation.STATUS, 1, target=redeem.request_id)),
        )
        assert (await asked.reply).outcome == Outcome.APPROVED
        assert (await told.reply).detail[0] == Standing.STANDS


async def test_a_reversal_that_came_first_stops_its_original_also_after_a_merge(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        await rig.do(ledger, Operation.REVERSE, 1, target=redeem.request_id)
        await merged(rig, ledger, 1, 2)
        await rig.give(ledger, 2, 1000)
        assert (await rig.ask(ledger, redeem)).outcome == Outcome.REVERSED
        assert await rig.available(ledger, 2) == 1000


async def test_merged_accounts_are_merged_again(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        kept = await history(rig, ledger, 1, forgotten=False)
        await merged(rig, ledger, 1, 2)
        await rig.give(ledger, 2, 10)
        await merged(rig, ledger, 2, 3)
        for asked, answer in kept:
            assert (await rig.ask(ledger, asked)).body == answer.body
        assert (await rig.do(ledger, Operation.REVERSE, 2, target=kept[1][0].request_id)).points == 400
        assert {await rig.available(ledger, card) for card in (1, 2, 3)} == {1010}


async def test_a_hold_that_ended_before_the_merge_stays_ended(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=300, hold_ms=3_600_000)
        await rig.ask(ledger, hold)
        capture = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id, points=200)
        assert capture.points == 200
        await merged(rig, ledger, 1, 2)
        for op in (Operation.CAPTURE, Operation.RELEASE):
            assert (await rig.do(ledger, op, 1, target=hold.request_id)).outcome == Outcome.HOLD_CLOSED
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=hold.request_id)).outcome == Outcome.APPROVED
        assert await rig.available(ledger, 1) == 1000


async def test_an_issued_card_moves_along_and_one_that_moved_on_before_stays_where_it_is(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        source, target = await account_of(rig, ISSUED_CARD), await account_of(rig, 2)
        await rig.do(ledger, Operation.REPLACE, 3, new_token=token_of(ISSUED_CARD), new_token_kind=1)
        await desk_at(ledger).link(new_id(), source, new_card(PHONE))
        await desk_at(ledger).link(new_id(), source, new_card(ISSUED_CARD + 1))
        assert [each.outcome for each in await merge(ledger, source, target)] == [*MERGED]
        assert set(await cards_of(rig, target)) == {token_of(card) for card in (2, PHONE, ISSUED_CARD + 1)}
        assert await account_of(rig, ISSUED_CARD) == await account_of(rig, 3)
        # The card's first account is closed; by way of its second one it comes to the same target.
        await merged(rig, ledger, 3, 2)
        assert await account_of(rig, ISSUED_CARD) == target


async def test_a_card_that_comes_back_to_the_account_it_was_issued_to_is_there_once(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        first = await account_of(rig, ISSUED_CARD)
        await rig.give(ledger, 3, 1000)
        await rig.do(ledger, Operation.REPLACE, 3, new_token=token_of(ISSUED_CARD), new_token_kind=1)
        assert [each.outcome for each in await merge(ledger, await account_of(rig, 3), first)] == [*MERGED]
        assert await rig.available(ledger, ISSUED_CARD) == 1000


async def test_a_card_taken_for_another_member_meanwhile_ends_in_one_place(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        source, target = await account_of(rig, ISSUED_CARD), await account_of(rig, 2)
        replacing, (out, taken) = await asyncio.gather(
            rig.do(ledger, Operation.REPLACE, 3, new_token=token_of(ISSUED_CARD), new_token_kind=1),
            merge(ledger, source, target),
        )
        assert (out.outcome, taken.outcome) == MERGED
        moved = replacing.outcome == Outcome.APPROVED
        assert await account_of(rig, ISSUED_CARD) == (await account_of(rig, 3) if moved else target)


async def test_a_card_moves_only_to_the_account_that_its_own_has_become_part_of(rig: Rig) -> None:
    """Asked of PostgreSQL itself, whatever a decision says."""

    async def moves_to(card: int, account: int) -> bool:
        async with rig.database() as connection:
            transaction = connection.transaction()
            await transaction.start()
            taken = await connection.fetch(statement("change_cards"), [token_of(card)], [account], [1], [1], ["…"])
            await transaction.rollback()
            return bool(taken)

    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        accounts = [await account_of(rig, card) for card in range(4)]
        await rig.give(ledger, 0, 10)
        assert [await moves_to(1, account) for account in accounts] == [False, True, False, False]
        out_id = new_id()
        await desk.merge_out(out_id, accounts[1])
        assert [await moves_to(1, account) for account in accounts] == [False, True, False, False]
        await desk.merge_in(new_id(), accounts[2], out_id)
        assert [await moves_to(1, account) for account in accounts] == [False, False, True, False]
        await lead(rig, 1, accounts[1])
        assert [await moves_to(1, account) for account in accounts] == [False, True, True, False]
        await lead(rig, 1, accounts[2])


async def lead(rig: Rig, card: int, account: int) -> None:
    async with rig.database() as connection:
        await connection.execute("UPDATE card SET account_id = $1 WHERE token = $2", account, token_of(card))


async def test_lots_beyond_the_bound_are_joined_and_no_point_is_lost(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, today = desk_at(ledger), ledger.today()
        source, target = await account_of(rig, 1), await account_of(rig, 2)
        await asyncio.gather(*(desk.adjust(new_id(), source, 1, today + day, "") for day in range(1, 301)))
        await asyncio.gather(*(desk.adjust(new_id(), target, 1, today + day, "") for day in range(200, 500)))
        await asyncio.gather(*(desk.adjust(new_id(), target, 1, today + day, "") for day in range(600, 700)))
        assert tuple(each.outcome for each in await merge(ledger, source, target)) == MERGED
        assert await rig.available(ledger, 1) == 700
        await rig.do(ledger, Operation.REDEEM, 1, points=700)


async def test_a_veto_on_an_adjustment_leaves_one_effect(rig: Rig) -> None:
    """Redis is set back to a time before; PostgreSQL refuses what was decided on it, and it is decided again."""
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        await rig.give(ledger, 1, 1000)
        async with rig.redis() as redis:
            keys = [key async for key in redis.scan_iter("*") if key.endswith(b":%d" % account)]
            assert len(keys) == 1
            before = await redis.get(keys[0])
            await rig.do(ledger, Operation.REDEEM, 1, points=900)
            await redis.set(keys[0], before)
        request_id = new_id()
        taken = await reply(desk.adjust(request_id, account, -500, 0, "mistake"))
        assert taken.balance is not None
        assert taken.balance[:4] == [0, 0, 0, 400]
        assert (await reply(desk.adjust(request_id, account, -500, 0, "mistake"))).body == taken.body
        assert ledger.statistics.vetoes == 1


@pytest.mark.parametrize("partitions", [1, 2])
async def test_without_redis_everything_goes_on(postgres_url: str, valkey_url: str, partitions: int) -> None:
    rig = Rig(postgres_url, valkey_url, replace(LIMITS, partitions=partitions, redis_timeout_s=0.5))
    await rig.prepare(cards=4, partitions=partitions)
    async with rig.ledger(redis_url="redis://127.0.0.1:1/0") as ledger:
        await rig.until_on(ledger, standby=True)
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        first = await rig.ask(ledger, redeem)
        await merged(rig, ledger, 1, 2)
        assert (await rig.ask(ledger, redeem)).body == first.body
        assert await rig.available(ledger, 1) == 900
    await rig.verify()
