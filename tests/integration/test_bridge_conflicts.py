"""What a relay approved and headquarters cannot book is put before people, once, before the relay hears of it."""

import asyncio
from typing import Any

import pytest

from ledger.journal.enrolment import NewCard, enrol
from ledger.journal.writer import JournalDown
from protocol import tokens
from protocol.codes import ErrorCode, Message, Outcome
from protocol.messages import AnswerMessage
from protocol.requests import BalanceRequest, BlockRequest, CaptureRequest, Card, EarnRequest, HoldRequest, SaleRequest
from tests.rigs.advices_rig import HOUR_MS, NOW_MS, hq
from tests.rigs.relay_rig import Headquarters, Reply, approved, card, declined, earn, new_id, receipt, redeem, refused

__all__ = ["hq"]


@pytest.mark.parametrize("kind", ["redeem", "sale", "hold", "balance", "capture", "hold_id of an earn"])
async def test_what_a_relay_may_not_approve_by_itself_is_refused_and_listed(hq: Headquarters, kind: str) -> None:
    requests: dict[str, Any] = {
        "redeem": redeem(),
        "sale": SaleRequest(new_id(), 0, card(0), receipt(), 5),
        "hold": HoldRequest(new_id(), 0, card(0), 5, receipt()),
        "balance": BalanceRequest(new_id(), 0, card(0)),
        "capture": CaptureRequest(new_id(), 0, card(0), new_id(), 5, receipt()),
        "hold_id of an earn": earn(),
    }
    async with hq.worker(), hq.relay() as relay:
        fields = {"hold_id": new_id()} if kind.startswith("hold_id") else {"sale_ms": NOW_MS}
        assert refused(await relay.ask(requests[kind], **fields)) == ErrorCode.MALFORMED
        assert [row["outcome"] for row in await hq.conflicts()] == [ErrorCode.MALFORMED]
        assert await hq.journal(0) == []


async def test_a_declined_advice_is_on_the_list_with_all_that_people_need_and_no_card_number(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        async with hq.database() as connection:
            account = await connection.fetchval("SELECT account_id FROM card WHERE token = $1", hq.token(3))
            ids = dict(await connection.fetch("SELECT code, terminal_id FROM terminal"))
        approved(await relay.ask(BlockRequest(new_id(), 0, card(3), 1)))
        blocked, unknown, unreadable = earn(3, 4_200), earn(77), earn(0)
        unreadable.card = Card(1, "2000000000016")
        assert declined(await relay.ask(blocked, "T-1", sale_ms=NOW_MS - HOUR_MS)) == Outcome.CARD_BLOCKED
        assert declined(await relay.ask(unknown, sale_ms=NOW_MS)) == Outcome.UNKNOWN_CARD
        assert declined(await relay.ask(unreadable, sale_ms=NOW_MS)) == Outcome.BAD_CARD
        spending = redeem(points=700)
        assert declined(await relay.ask(spending, hold_id=new_id(), sale_ms=NOW_MS)) == Outcome.HOLD_UNKNOWN
        rows = await hq.conflicts()
        first = rows[0]
        assert (first["request_id"], first["relay_id"], first["terminal_id"]) == (
            blocked.request_id, ids["R-1"], ids["T-1"])  # fmt: skip
        assert (first["account_id"], first["op"], first["outcome"]) == (account, Message.EARN, Outcome.CARD_BLOCKED)
        assert (first["points"], first["amount"], first["currency"], first["reference"]) == (0, 4_200, "EUR", "0042-4")
        assert first["sale_ms"] == NOW_MS - HOUR_MS
        assert first["settled_ms"] is None
        assert [row["account_id"] for row in rows[1:3]] == [None, None]
        assert (rows[3]["op"], rows[3]["points"], rows[3]["outcome"]) == (Message.REDEEM, 700, Outcome.HOLD_UNKNOWN)
        assert not any(card(number).value in str(dict(row)) for row in rows for number in (3, 77, 0))


async def test_a_declined_advice_that_is_asked_again_is_listed_once(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(77)
        for _ in range(3):
            assert declined(await relay.ask(request, sale_ms=NOW_MS)) == Outcome.UNKNOWN_CARD
        assert len(await hq.conflicts()) == 1


async def test_what_stands_on_the_list_stays_declined_because_people_may_have_made_up_for_it(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(77)
        assert declined(await relay.ask(request, sale_ms=NOW_MS)) == Outcome.UNKNOWN_CARD
        # The relay did not hear it and is alone again; meanwhile the card is issued and people give the points by hand.
        async with hq.database() as connection, connection.transaction():
            await enrol(connection, [NewCard(hq.token(77), 1, tokens.masked(str(card(77).token)), 1)])
            await connection.execute("UPDATE office.conflict SET settled_by = 'ann', settled_ms = 1")
    async with hq.worker(), hq.relay() as relay:
        approved(await relay.ask(earn(77), sale_ms=NOW_MS))
        before = len(await hq.journal(77))
        assert declined(await relay.ask(request, sale_ms=NOW_MS)) == Outcome.UNKNOWN_CARD
        assert len(await hq.journal(77)) == before
        # Another register's request is another one, whatever its id.
        approved(await relay.ask(request, "T-1", sale_ms=NOW_MS))


async def test_as_long_as_the_list_cannot_be_read_no_advice_is_decided(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        failures: list[Exception] = [JournalDown("away"), ValueError("a bug")]
        listed = worker.ledger.listed_conflicts

        async def failing(requests: Any) -> Any:
            if failures:
                raise failures.pop(0)
            return await listed(requests)

        assert worker.bridge is not None
        monkeypatch.setattr(worker.bridge._conflicts, "_listed", failing)
        request = earn(0)
        for _ in range(2):
            assert refused(await relay.ask(request, sale_ms=NOW_MS)) == ErrorCode.UNAVAILABLE
            assert await hq.journal(0) == []
        approved(await relay.ask(request, sale_ms=NOW_MS))
        assert worker.bridge.figures()["in_flight"] == 0


async def test_conflicts_of_two_registers_under_one_id_are_both_listed(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(77)
        for terminal in ("T-0", "T-1"):
            assert declined(await relay.ask(request, terminal, sale_ms=NOW_MS)) == Outcome.UNKNOWN_CARD
        assert len(await hq.conflicts()) == 2


async def test_an_error_that_stands_on_the_list_is_the_same_error_again(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        spending = redeem()
        for _ in range(2):
            assert refused(await relay.ask(spending, sale_ms=NOW_MS)) == ErrorCode.MALFORMED
        assert len(await hq.conflicts()) == 1


async def test_an_id_that_was_used_for_something_else_is_a_conflict(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        approved(await relay.ask(request))
        other = EarnRequest(request.request_id, 0, card(0), receipt(5), None, 0)
        assert refused(await relay.ask(other, sale_ms=NOW_MS)) == ErrorCode.ID_REUSED
        assert [row["outcome"] for row in await hq.conflicts()] == [ErrorCode.ID_REUSED]


async def test_a_live_decline_and_what_may_pass_are_no_conflicts(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        assert declined(await relay.ask(redeem())) == Outcome.INSUFFICIENT
        assert declined(await relay.ask(earn(77))) == Outcome.UNKNOWN_CARD
        approved(await relay.ask(earn(0), sale_ms=NOW_MS))
        assert await hq.conflicts() == []


async def test_the_relay_hears_of_a_decline_only_when_the_list_has_it(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        begun, go_on = asyncio.Event(), asyncio.Event()
        add = worker.ledger.add_conflicts

        async def slow(conflicts: Any) -> None:
            begun.set()
            await go_on.wait()
            await add(conflicts)

        assert worker.bridge is not None
        monkeypatch.setattr(worker.bridge._conflicts, "_add", slow)
        request = earn(77)
        relay.publish([relay.item(request, sale_ms=NOW_MS)])
        await asyncio.wait_for(begun.wait(), 30)
        # Others do not wait for it.
        approved(await relay.ask(earn(0), sale_ms=NOW_MS))
        assert request.request_id not in relay.replies
        assert await hq.conflicts() == []
        go_on.set()
        assert declined(await relay.reply(request.request_id)) == Outcome.UNKNOWN_CARD
        assert len(await hq.conflicts()) == 1


async def test_a_list_that_cannot_be_written_leaves_the_relay_in_doubt_and_it_asks_again(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        add = worker.ledger.add_conflicts
        failures: list[Exception] = [JournalDown("away"), ValueError("a bug")]

        async def failing(conflicts: Any) -> None:
            if failures:
                raise failures.pop(0)
            await add(conflicts)

        assert worker.bridge is not None
        monkeypatch.setattr(worker.bridge._conflicts, "_add", failing)
        request = earn(77)
        for _ in range(2):
            assert refused(await relay.ask(request, sale_ms=NOW_MS)) == ErrorCode.UNAVAILABLE
        assert declined(await relay.ask(request, sale_ms=NOW_MS)) == Outcome.UNKNOWN_CARD
        assert len(await hq.conflicts()) == 1
        assert worker.bridge.figures()["in_flight"] == 0


async def test_a_worker_that_dies_between_the_list_and_the_answer_doubles_nothing(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = earn(77)
    async with hq.relay(sign_on=False) as relay:
        async with hq.worker() as worker:
            await relay.sign_on()
            assert worker.bridge is not None
            # The publication with the answer never leaves.
            monkeypatch.setattr(worker.bridge._backlog_outbox, "flush_soon", lambda session: None)
            relay.publish([relay.item(request, sale_ms=NOW_MS)])
            async with asyncio.timeout(30):
                while not await hq.conflicts():
                    await asyncio.sleep(0.02)
            assert request.request_id not in relay.replies
        async with hq.worker():
            answer = await relay.insist(request, sale_ms=NOW_MS)
            assert answer.answer.outcome == Outcome.UNKNOWN_CARD
    assert len(await hq.conflicts()) == 1


async def test_a_terminal_suspended_meanwhile_is_a_conflict(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        async with hq.database() as connection:
            await connection.execute("UPDATE terminal SET active = false WHERE code = 'T-1'")
        async with asyncio.timeout(20):
            while True:
                if declined_or_zero(await relay.ask(earn(0), "T-1", sale_ms=NOW_MS)) == Outcome.NOT_PERMITTED:
                    break
                await asyncio.sleep(0.1)
        assert {row["outcome"] for row in await hq.conflicts()} == {Outcome.NOT_PERMITTED}


def declined_or_zero(reply: Reply) -> int:
    assert isinstance(reply, AnswerMessage)
    return reply.answer.outcome
