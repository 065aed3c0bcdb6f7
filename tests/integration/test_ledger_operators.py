"""What operators do to accounts and cards, through the whole ledger; the fixture proves the books at the end."""

from collections.abc import AsyncIterator

import pytest

from ledger.operations import Operation, Outcome
from ledger.operator_desk import Undecided
from ledger.submission import Refusal
from tests.rigs.ledger_rig import Rig, token_of
from tests.rigs.operator_rig import account_of, balance_of, cards_of, desk_at, new_card, new_id, reply

ISSUED_CARD, PHONE = 10, 77


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=6, issued=6)
    yield rig
    await rig.verify()


async def test_a_blocked_card_works_again_when_it_is_unblocked(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        await rig.give(ledger, 1, 1000)
        assert (await reply(desk.unblock(new_id(), token_of(1)))).outcome == Outcome.ALREADY_ACTIVE
        assert (await reply(desk.block(new_id(), token_of(1), "lost"))).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).outcome == Outcome.CARD_BLOCKED
        assert (await reply(desk.unblock(new_id(), token_of(1), "found"))).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).outcome == Outcome.APPROVED


async def test_only_a_blocked_card_is_unblocked(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        assert (await reply(desk.unblock(new_id(), token_of(ISSUED_CARD)))).outcome == Outcome.CARD_INACTIVE
        assert (await reply(desk.unblock(new_id(), token_of(PHONE)))).outcome == Outcome.UNKNOWN_CARD
        await reply(desk.replace(new_id(), token_of(1), new_card(PHONE)))
        assert (await reply(desk.unblock(new_id(), token_of(1)))).outcome == Outcome.CARD_REPLACED


async def test_an_operator_activates_and_replaces_by_the_card_alone(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk = desk_at(ledger)
        assert (await reply(desk.activate(new_id(), token_of(ISSUED_CARD)))).outcome == Outcome.APPROVED
        await rig.give(ledger, ISSUED_CARD, 500)
        assert (await reply(desk.replace(new_id(), token_of(ISSUED_CARD), new_card(PHONE)))).outcome == Outcome.APPROVED
        assert await rig.available(ledger, PHONE) == 500
        assert (await rig.do(ledger, Operation.REDEEM, ISSUED_CARD, points=1)).outcome == Outcome.CARD_REPLACED


@pytest.mark.parametrize("new", [PHONE, ISSUED_CARD])
async def test_a_linked_phone_leads_to_the_account(rig: Rig, new: int) -> None:
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        await rig.give(ledger, 1, 1000)
        assert (await reply(desk.link(new_id(), account, new_card(new)))).outcome == Outcome.APPROVED
        assert await rig.available(ledger, new) == await rig.available(ledger, 1) == 1000
        assert (await reply(desk.link(new_id(), account, new_card(new)))).outcome == Outcome.CARD_IN_USE
        assert (await cards_of(rig, account))[token_of(new)][0] == 1


async def test_a_card_in_use_is_not_linked(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        linked = await reply(desk_at(ledger).link(new_id(), await account_of(rig, 1), new_card(2)))
        assert linked.outcome == Outcome.CARD_IN_USE


async def test_a_blocked_account_spends_nothing_by_any_card_until_it_is_unblocked(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        await rig.give(ledger, 1, 1000)
        await desk.link(new_id(), account, new_card(PHONE))
        for _ in range(2):
            assert (await reply(desk.block_account(new_id(), account))).outcome == Outcome.APPROVED
        for card in (1, PHONE):
            assert (await rig.do(ledger, Operation.REDEEM, card, points=1)).outcome == Outcome.ACCOUNT_BLOCKED
        assert (await reply(desk.unblock(new_id(), token_of(1)))).outcome == Outcome.ACCOUNT_BLOCKED
        for _ in range(2):
            assert (await reply(desk.unblock_account(new_id(), account))).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REDEEM, PHONE, points=1)).outcome == Outcome.APPROVED


async def test_an_operator_releases_the_hold_of_any_partner(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=300, hold_ms=3_600_000)
        await rig.ask(ledger, hold)
        assert (await rig.do(ledger, Operation.RELEASE, 1, target=hold.request_id, partner_id=99)).outcome == (
            Outcome.NOT_PERMITTED
        )
        released = await reply(desk.release(new_id(), account, hold.request_id, "stuck"))
        assert (released.outcome, released.points) == (Outcome.APPROVED, 300)
        assert (await balance_of(rig, ledger, 1))[:2] == [1000, 0]
        assert (await reply(desk.release(new_id(), account, hold.request_id))).outcome == Outcome.HOLD_CLOSED
        assert (await reply(desk.release(new_id(), account, new_id()))).outcome == Outcome.HOLD_UNKNOWN
        other = await account_of(rig, 2)
        assert (await reply(desk.release(new_id(), other, hold.request_id))).outcome == Outcome.ORIGINAL_OTHER_CARD
        captured = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id)
        assert captured.outcome == Outcome.HOLD_CLOSED


async def test_points_taken_that_are_not_there_become_owed_and_are_paid_by_what_comes_in(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        await rig.give(ledger, 1, 100)
        await rig.do(ledger, Operation.HOLD, 1, points=40, hold_ms=3_600_000)
        taken = await reply(desk.adjust(new_id(), account, -250, 0, "mistake"))
        assert (taken.outcome, taken.earned) == (Outcome.APPROVED, -250)
        assert (await balance_of(rig, ledger, 1))[:4] == [0, 40, 0, 190]
        await desk.adjust(new_id(), account, 200, 0, "goodwill")
        assert (await balance_of(rig, ledger, 1))[:4] == [10, 40, 0, 0]


async def test_adjusted_points_expire_on_their_day_or_never(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, account, today = desk_at(ledger), await account_of(rig, 1), ledger.today()
        await desk.adjust(new_id(), account, 100, 0, "for ever")
        assert (await balance_of(rig, ledger, 1))[4:] == [0, 0]
        await desk.adjust(new_id(), account, 30, today + 3, "for a while")
        assert (await balance_of(rig, ledger, 1))[4:] == [30, today + 3]
        past = await reply(desk.adjust(new_id(), account, 50, today - 1, "too late"))
        assert (past.outcome, past.balance and past.balance[0]) == (Outcome.APPROVED, 130)


async def test_too_much_is_declined(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        assert (await reply(desk.adjust(new_id(), account, 2**53 - 1, 0, "all"))).outcome == Outcome.APPROVED
        assert (await reply(desk.adjust(new_id(), account, 1, 0, "more"))).outcome == Outcome.ACCOUNT_LIMIT


async def test_every_request_of_an_operator_is_answered_once_and_again_with_the_same_bytes(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        desk, account = desk_at(ledger), await account_of(rig, 1)
        hold = rig.submission(Operation.HOLD, 1, points=10, hold_ms=3_600_000)
        ids = [new_id() for _ in range(10)]

        async def everything(points: int = 1000) -> list[bytes]:
            decided = [
                await desk.adjust(ids[0], account, points, 0, "goodwill"),
                await desk.link(ids[1], account, new_card(PHONE)),
                await desk.block(ids[2], token_of(PHONE)),
                await desk.unblock(ids[3], token_of(PHONE)),
                await desk.replace(ids[4], token_of(PHONE), new_card(78)),
                await desk.activate(ids[5], token_of(ISSUED_CARD)),
                await desk.block_account(ids[6], account),
                await desk.unblock_account(ids[7], account),
            ]
            await rig.ask(ledger, hold)
            decided.append(await desk.release(ids[8], account, hold.request_id))
            return [each.body for each in decided]

        first = await everything()
        # So many that the account remembers none of them any more.
        for _ in range(9):
            await rig.give(ledger, 1, 1)
        assert await everything() == first
        with pytest.raises(Undecided) as refused:
            await everything(points=1001)
        assert refused.value.refusal == Refusal.ID_REUSED
