"""One request, or one state, on which the script fails must not take its neighbours along."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from ledger.operations import Operation, Outcome
from ledger.pipeline import Pipeline
from ledger.submission import Refusal, Submission
from tests.rigs.ledger_rig import FAULT_LIMITS, Rig, token_of

UNHEARD_OF = 99


def poisoned(rig: Rig, card: int) -> Submission:
    return replace(rig.submission(Operation.REDEEM, card, points=1), op=UNHEARD_OF)


@pytest.mark.parametrize("temperature", ["hot", "cold"])
async def test_a_poisoned_request_is_refused_alone(rig: Rig, temperature: str) -> None:
    async with rig.ledger() as ledger:
        for card in range(10):
            await rig.give(ledger, card, 1000)
        if temperature == "hot":
            await asyncio.gather(*(rig.available(ledger, card) for card in range(10)))
    async with rig.ledger(place=None) as ledger:
        if temperature == "cold":
            await forget_all(rig)
        cards = [*range(10)] * 3
        good = [rig.send(ledger, rig.submission(Operation.REDEEM, card, points=10)) for card in cards[:15]]
        bad = [rig.send(ledger, poisoned(rig, card)) for card in (3, 7)]
        good += [rig.send(ledger, rig.submission(Operation.REDEEM, card, points=10)) for card in cards[15:]]
        assert {(await asyncio.wait_for(w.reply, 30)).outcome for w in good} == {Outcome.APPROVED}
        assert {(await asyncio.wait_for(w.reply, 30)).refusal for w in bad} == {Refusal.UNAVAILABLE}
        assert {await rig.available(ledger, card) for card in range(10)} == {970}


async def forget_all(rig: Rig) -> None:
    async with rig.database() as connection:
        await connection.execute("UPDATE partition SET generation = generation + 1")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


async def test_a_refund_beside_a_poisoned_request_is_decided(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earn = await rig.give(ledger, 1, 1000)
        replies = await asyncio.gather(
            *(rig.do(ledger, Operation.REFUND, 1, target=earn.request_id, amount=2000) for _ in range(3)),
            rig.ask(ledger, poisoned(rig, 1)),
            rig.do(ledger, Operation.REVERSE, 1, target=b"?" * 16),
        )
        assert [reply.outcome for reply in replies] == [0, 0, 0, None, 0]
        assert await rig.available(ledger, 1) == 700


async def test_a_state_that_is_none_stops_its_own_account_only(rig: Rig) -> None:
    async with rig.database() as connection:
        account = await connection.fetchval("SELECT account_id FROM card WHERE token = $1", token_of(3))
        state = await connection.fetchval("SELECT state FROM account WHERE account_id = $1", account)
        await spoil(connection, account, b"\xc1")
        async with rig.ledger() as ledger:
            asked = [rig.submission(Operation.EARN, card, amount=20_000) for card in range(10)]
            replies = await asyncio.gather(*(rig.ask(ledger, submission) for submission in asked))
            assert [reply.refusal for reply in replies].count(Refusal.UNAVAILABLE) == 1
            assert replies[3].refusal is Refusal.UNAVAILABLE
            await spoil(connection, account, state)
            assert (await rig.insist(ledger, asked[3])).outcome == Outcome.APPROVED


async def spoil(connection: asyncpg.Connection, account: int, state: bytes) -> None:
    await connection.execute("UPDATE account SET state = $2 WHERE account_id = $1", account, state)


async def test_a_batch_larger_than_luas_stack_is_decided_in_parts(
    postgres_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=4500)
    failures: list[object] = []
    monkeypatch.setattr(Pipeline, "_isolate", lambda *told: failures.append(told))
    limits = replace(FAULT_LIMITS, batch_requests_max=8192, loads_max=8192, uncommitted_entries_max=10_000)
    async with rig.ledger(limits) as ledger:
        waiters = [rig.send(ledger, rig.submission(Operation.EARN, card, amount=20)) for card in range(4500)]
        async with asyncio.timeout(60):
            while not failures and not all(waiter.reply.done() for waiter in waiters):
                await asyncio.sleep(0.01)
        assert not failures
        assert {waiter.reply.result().outcome for waiter in waiters} == {Outcome.APPROVED}


async def test_more_reloads_than_fit_one_script_call_all_arrive(rig: Rig) -> None:
    async with rig.ledger(replace(FAULT_LIMITS, batch_requests_max=4)) as ledger:
        old = []
        for card in range(10):
            await rig.give(ledger, card, 1000)
            old.append(rig.submission(Operation.REDEEM, card, points=100))
            await rig.ask(ledger, old[-1])
            await asyncio.gather(*(rig.do(ledger, Operation.REDEEM, card, points=1) for _ in range(8)))
        replies = await asyncio.gather(*(rig.ask(ledger, submission) for submission in old))
        assert all(reply.replayed for reply in replies)
        assert {await rig.available(ledger, card) for card in range(10)} == {892}
