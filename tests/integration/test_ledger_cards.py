"""ACTIVATE, BLOCK and REPLACE through the whole ledger, and greeting names; the fixture proves the books at the end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from ledger.greetings import encrypt
from ledger.journal.onboarding import Onboarding
from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.submission import Submission
from tests.rigs.ledger_rig import LIMITS, PERSONAL_KEY, Rig, token_of

ISSUED_CARD, UNKNOWN_CARD = 10, 77
LIMITS_2 = replace(LIMITS, partitions=2)


def replacing(rig: Rig, card: int, new: int) -> Submission:
    return rig.submission(
        Operation.REPLACE, card, new_token=token_of(new), new_token_kind=1, new_token_masked=f"…{new}"
    )


async def account_of(rig: Rig, card: int) -> int:
    async with rig.database() as connection:
        return int(await connection.fetchval("SELECT account_id FROM card WHERE token = $1", token_of(card)))


async def test_a_card_must_be_activated_once(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        inactive = await rig.do(ledger, Operation.EARN, ISSUED_CARD, amount=1000)
        activated = await rig.do(ledger, Operation.ACTIVATE, ISSUED_CARD)
        again = await rig.do(ledger, Operation.ACTIVATE, ISSUED_CARD)
        assert [inactive.outcome, activated.outcome, again.outcome] == [
            Outcome.CARD_INACTIVE, Outcome.APPROVED, Outcome.ALREADY_ACTIVE
        ]  # fmt: skip
        await rig.give(ledger, ISSUED_CARD, 100)


async def test_a_blocked_card_spends_nothing_but_its_sales_can_be_undone(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=400)
        await rig.ask(ledger, redeem)
        assert (await rig.do(ledger, Operation.BLOCK, 1)).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.BLOCK, 1)).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).outcome == Outcome.CARD_BLOCKED
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=redeem.request_id)).points == 400


@pytest.mark.parametrize("new", [UNKNOWN_CARD, ISSUED_CARD])
async def test_the_points_follow_from_a_lost_card_to_the_new_one_odoo_145782(rig: Rig, new: int) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        first = await rig.ask(ledger, redeem)
        # This worker knows where the new card led before it moved.
        await rig.do(ledger, Operation.EARN, new, amount=1000)
        assert (await rig.ask(ledger, replacing(rig, 1, new))).outcome == Outcome.APPROVED
        assert await rig.available(ledger, new) == 900
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).outcome == Outcome.CARD_REPLACED
        assert (await rig.ask(ledger, redeem)).body == first.body
        assert await account_of(rig, new) == await account_of(rig, 1)


async def test_a_card_in_use_replaces_nothing(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        taken = [await rig.ask(ledger, replacing(rig, 1, new)) for new in (1, 2)]
        assert {reply.outcome for reply in taken} == {Outcome.CARD_IN_USE}
        inactive = await rig.ask(ledger, replacing(rig, ISSUED_CARD, UNKNOWN_CARD))
        assert inactive.outcome == Outcome.CARD_INACTIVE


async def test_a_sale_of_the_moved_card_is_reversed_where_it_was_made(rig: Rig) -> None:
    """A worker that saw the new card before it moved must not look for its sales on the account that it left."""
    async with rig.ledger() as ledger:
        old_account = await account_of(rig, ISSUED_CARD)
        await rig.ask(ledger, replacing(rig, 1, ISSUED_CARD))
        earn = await rig.give(ledger, ISSUED_CARD, 1000)
        ledger._card_index._remembered.keep(token_of(ISSUED_CARD), old_account)
        reversed_ = await rig.do(ledger, Operation.REVERSE, ISSUED_CARD, target=earn.request_id)
        assert (reversed_.outcome, reversed_.earned) == (Outcome.APPROVED, -1000)


@pytest.mark.parametrize("op", [Operation.ACTIVATE, Operation.EARN])
async def test_a_request_that_was_reversed_on_the_account_to_which_its_card_moved_is_told_so(
    rig: Rig, op: Operation
) -> None:
    """A worker that saw the card before it moved decides on the account that it left, and finds the id taken."""
    async with rig.ledger() as ledger:
        old_account = await account_of(rig, ISSUED_CARD)
        await rig.ask(ledger, replacing(rig, 1, ISSUED_CARD))
        late = rig.submission(op, ISSUED_CARD, amount=1_000)
        await rig.do(ledger, Operation.REVERSE, ISSUED_CARD, target=late.request_id)
        ledger._card_index._remembered.keep(token_of(ISSUED_CARD), old_account)
        assert (await rig.ask(ledger, late)).outcome == Outcome.REVERSED


async def test_a_retry_after_its_card_has_moved_gets_the_answer_that_was_given(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        old_account = await account_of(rig, ISSUED_CARD)
        await rig.ask(ledger, replacing(rig, 1, ISSUED_CARD))
        earn = rig.submission(Operation.EARN, ISSUED_CARD, amount=1_000)
        first = await rig.ask(ledger, earn)
        ledger._card_index._remembered.keep(token_of(ISSUED_CARD), old_account)
        again = await rig.ask(ledger, earn)
        assert (again.replayed, again.body) == (True, first.body)


async def test_where_an_issued_card_leads_is_not_remembered_because_it_may_move(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.do(ledger, Operation.BALANCE, ISSUED_CARD)
        await rig.do(ledger, Operation.BALANCE, 1)
        assert ledger._card_index.known(token_of(1)) is not None
        assert ledger._card_index.known(token_of(ISSUED_CARD)) is None


@pytest.mark.parametrize("new", [UNKNOWN_CARD, ISSUED_CARD])
async def test_two_accounts_replacing_to_the_same_card_at_once_have_one_winner(rig: Rig, new: int) -> None:
    async with rig.ledger() as ledger:
        replies = await asyncio.gather(*(rig.ask(ledger, replacing(rig, card, new)) for card in range(10)))
        outcomes = [reply.outcome for reply in replies]
        assert sorted(outcomes) == [Outcome.APPROVED] + [Outcome.CARD_IN_USE] * 9
        assert await account_of(rig, new) == await account_of(rig, outcomes.index(Outcome.APPROVED))


@pytest.fixture
async def two_partitions(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=2, issued=6, partitions=2)
    yield rig
    await rig.verify()


@pytest.mark.parametrize("new", [2, 3, 4, 5])
async def test_a_card_activated_while_it_replaces_another_goes_one_way(two_partitions: Rig, new: int) -> None:
    rig = two_partitions
    async with rig.ledger(LIMITS_2) as ledger:
        activated, replaced = await asyncio.gather(
            rig.do(ledger, Operation.ACTIVATE, new), rig.ask(ledger, replacing(rig, 1, new))
        )
        assert (activated.outcome, replaced.outcome) in {
            (Outcome.APPROVED, Outcome.CARD_IN_USE), (Outcome.ALREADY_ACTIVE, Outcome.APPROVED)
        }  # fmt: skip


async def test_a_deadlock_between_writers_is_tried_again_and_ends_no_worker(rig: Rig) -> None:
    """The card's own account is busy in another transaction, which in turn waits for the card."""
    async with rig.ledger() as ledger, rig.database() as other:
        account = await account_of(rig, ISSUED_CARD)
        async with other.transaction():
            await other.execute("UPDATE account SET link = link WHERE account_id = $1", account)
            waiter = rig.send(ledger, replacing(rig, 1, ISSUED_CARD))
            await until_blocked(rig)
            try:
                await other.execute("UPDATE card SET masked = masked WHERE token = $1", token_of(ISSUED_CARD))
            except asyncpg.DeadlockDetectedError:
                pytest.skip("PostgreSQL chose the other transaction")
        assert (await asyncio.wait_for(waiter.reply, 30)).outcome == Outcome.APPROVED


async def until_blocked(rig: Rig) -> None:
    async with rig.database() as watcher, asyncio.timeout(30):
        while not await watcher.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            await asyncio.sleep(0.01)


# ---- greetings


async def greet(rig: Rig, card: int, name: str) -> None:
    account = await account_of(rig, card)
    async with rig.database() as connection:
        await Onboarding(connection).greeting(account, encrypt(PERSONAL_KEY, account, name))


async def greeted(rig: Rig, ledger: Ledger, card: int, **fields: object) -> str | None:
    return (await rig.do(ledger, Operation.BALANCE, card, greeting=True, **fields)).greeting


async def test_a_balance_greets_the_member_where_it_may(rig: Rig) -> None:
    await greet(rig, 1, "Ánná")
    async with rig.ledger() as ledger:
        assert await greeted(rig, ledger, 1) == "Ánná"
        assert await greeted(rig, ledger, 2) is None
        assert (await rig.do(ledger, Operation.BALANCE, 1)).greeting is None


async def test_a_declined_balance_tells_no_name(rig: Rig) -> None:
    await greet(rig, 1, "Ánná")
    async with rig.ledger() as ledger:
        assert await greeted(rig, ledger, 1, permitted=False) is None
        await rig.do(ledger, Operation.BLOCK, 1)
        assert await greeted(rig, ledger, 1) is None


async def test_a_name_moved_to_another_account_cannot_be_read_there(rig: Rig) -> None:
    await greet(rig, 1, "Ánná")
    async with rig.database() as connection:
        await connection.execute("UPDATE personal.member SET account_id = $1", await account_of(rig, 2))
    async with rig.ledger() as ledger:
        assert await greeted(rig, ledger, 2) is None
