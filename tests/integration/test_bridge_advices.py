"""What a relay approved while it was alone: booked by the time of sale, out of its allowance, or put before people."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ledger.journal.enrolment import NewCard, enrol
from ledger.journal.writer import JournalDown
from ledger.programme import Rules
from ledger.registry import relays
from protocol import tokens
from protocol.codes import ErrorCode, Message, Outcome, StatusState
from protocol.messages import AnswerMessage
from protocol.relay_messages import BACKLOG_SUFFIX
from protocol.requests import (
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    HoldRequest,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from server.bridge.limits import ALLOWANCE_GRACE_MS
from tests.rigs.relay_rig import (
    HandRelay,
    Headquarters,
    Reply,
    approved,
    card,
    declined,
    earn,
    new_id,
    receipt,
    redeem,
    refused,
    until,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = int(time.time() * 1000)
#: Until a day ago 5 % at once, since then 9 % after two days.
REDEEMING = {"redeem_min": 100, "redeem_max": 900, "share_bp": 5_000}
CHANGING = (
    Rules(0, earn_rate_bp=500, **REDEEMING),
    Rules(NOW_MS - DAY_MS, earn_rate_bp=900, activation_days=2, **REDEEMING),
)


@pytest.fixture
async def hq(postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, valkey_url, broker_url, tmp_path)
    await made.prepare(rules=CHANGING, allowance_points=2_000)
    yield made
    await made.verify()


async def available(relay: HandRelay, number: int = 0) -> int:
    answer = approved(await relay.ask(BalanceRequest(new_id(), 0, card(number)))).answer
    assert answer.balance is not None
    return answer.balance.available


async def give(relay: HandRelay, points: int, number: int = 0) -> None:
    """Let a card earn so many points that can be spent now."""
    request = EarnRequest(new_id(), 0, card(number), receipt(points * 20), None, 0)
    answer = approved(await relay.ask(request, sale_ms=NOW_MS - 2 * DAY_MS))
    assert answer.answer.earned == points


async def reserve(relay: HandRelay, points: int = 2_000, number: int = 0) -> bytes:
    """Let the relay reserve an allowance; return its id."""
    hold = HoldRequest(new_id(), 0, card(number), points, receipt(1_000_000), True)
    approved(await relay.ask(hold, "R-1"))
    return hold.request_id


async def test_an_earn_counts_by_its_time_of_sale_however_late(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        before = earn(0)
        assert approved(await relay.ask(before, sale_ms=NOW_MS - 2 * DAY_MS)).answer.earned == 5_000
        after = earn(1)
        assert approved(await relay.ask(after, sale_ms=NOW_MS - HOUR_MS)).answer.earned == 9_000
        assert await available(relay, 0) == 5_000
        assert await available(relay, 1) == 0
        entry = (await hq.journal(0))[0]
        assert (entry["sale_ms"], entry["code"]) == (NOW_MS - 2 * DAY_MS, "T-0")


async def test_an_old_advice_is_not_expired_by_having_been_long_on_its_way(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        request.ttl_ms = 100
        relay.publish([relay.item(request, sale_ms=NOW_MS - HOUR_MS)], sent_ago_ms=50_000)
        approved(await relay.reply(request.request_id))


async def test_a_relay_whose_clock_is_far_ahead_sold_now(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        assert approved(await relay.ask(request, sale_ms=NOW_MS + 90 * DAY_MS)).answer.earned == 9_000
        assert abs((await hq.journal(0))[0]["sale_ms"] - NOW_MS) < HOUR_MS


async def test_the_registers_own_time_of_an_offline_earn_counts(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = EarnRequest(new_id(), 0, card(0), receipt(100_000), None, NOW_MS - 2 * DAY_MS, offline=True)
        assert approved(await relay.ask(request, sale_ms=NOW_MS)).answer.earned == 5_000


async def test_a_sale_without_points_counts_by_its_time_too(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        sale = SaleRequest(new_id(), 0, card(0), receipt(100_000))
        assert approved(await relay.ask(sale, sale_ms=NOW_MS - 2 * DAY_MS)).answer.earned == 5_000
        assert await available(relay) == 5_000


async def test_an_advice_of_what_was_executed_live_is_a_replay(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        first = approved(await relay.ask(request))
        again = approved(await relay.ask(request, sale_ms=NOW_MS - 2 * DAY_MS))
        assert (again.replayed, again.body) == (True, first.body)
        assert len(await hq.journal(0)) == 1


async def test_a_reversal_of_an_advice_works_after_it_and_before_it(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        approved(await relay.ask(request, sale_ms=NOW_MS))
        approved(await relay.ask(ReverseRequest(new_id(), 0, card(0), request.request_id), sale_ms=NOW_MS))
        overtaken = earn(1)
        approved(await relay.ask(ReverseRequest(new_id(), 0, card(1), overtaken.request_id), sale_ms=NOW_MS))
        assert declined(await relay.ask(overtaken, sale_ms=NOW_MS)) == Outcome.REVERSED
        for number in (0, 1):
            left = approved(await relay.ask(BalanceRequest(new_id(), 0, card(number)))).answer.balance
            assert left is not None
            assert (left.available, left.pending) == (0, 0)
        assert [row["outcome"] for row in await hq.conflicts()] == [Outcome.REVERSED]


async def test_a_redemption_out_of_an_allowance_is_its_capture_and_remains_a_redemption_to_everybody(
    hq: Headquarters,
) -> None:
    async with hq.worker(), hq.relay() as relay:
        await give(relay, 5_000)
        hold_id = await reserve(relay)
        assert await available(relay) == 3_000
        spending = redeem(points=700)
        booked = approved(await relay.ask(spending, "T-2", sale_ms=NOW_MS - HOUR_MS, hold_id=hold_id))
        assert booked.answer.points == 700
        assert await available(relay) == 4_300
        entries = await hq.journal(0)
        assert [(entry["op"], entry["code"]) for entry in entries[-2:]] == [
            (Message.HOLD, "R-1"),
            (Message.CAPTURE, "T-2"),
        ]
        # The register asks again, live: the same answer; other content under that id: an error.
        again = approved(await relay.ask(spending, "T-2"))
        assert (again.replayed, again.body) == (True, booked.body)
        other = RedeemRequest(spending.request_id, 0, card(0), 701, receipt())
        assert refused(await relay.ask(other, "T-2")) == ErrorCode.ID_REUSED
        state = approved(await relay.ask(StatusRequest(new_id(), 0, card(0), spending.request_id), "T-2"))
        assert state.answer.status == StatusState.STANDS
        approved(await relay.ask(RefundRequest(new_id(), 0, card(0), spending.request_id, receipt(1_000)), "T-2"))
        assert await available(relay) > 4_300


async def test_a_redemption_out_of_an_allowance_can_be_reversed(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        await give(relay, 5_000)
        hold_id = await reserve(relay)
        spending = redeem(points=700)
        approved(await relay.ask(spending, sale_ms=NOW_MS, hold_id=hold_id))
        approved(await relay.ask(ReverseRequest(new_id(), 0, card(0), spending.request_id), sale_ms=NOW_MS))
        assert await available(relay) == 5_000


async def test_an_allowance_is_bounded_and_outlasts_an_outage(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        await give(relay, 5_000)
        too_much = HoldRequest(new_id(), 0, card(0), 2_001, receipt(1_000_000), True)
        assert refused(await relay.ask(too_much, "R-1")) == ErrorCode.MALFORMED
        hold = HoldRequest(new_id(), 0, card(0), 2_000, receipt(1_000_000), True, 5)
        held = approved(await relay.ask(hold, "R-1"))
        lasts_ms = held.answer.hold_until_ms - int(time.time() * 1000)
        async with hq.database() as connection:
            allowance_ms = await connection.fetchval("SELECT max(allowance_ms) FROM relay")
        # Longer than the network lets any register hold.
        assert lasts_ms > Rules(0).hold_max_ms
        assert abs(lasts_ms - allowance_ms - ALLOWANCE_GRACE_MS) < HOUR_MS
        approved(await relay.ask(ReleaseRequest(new_id(), 0, card(0), hold.request_id), "R-1"))
        assert await available(relay) == 5_000
        registers = approved(await relay.ask(HoldRequest(new_id(), 0, card(0), 100, receipt(), False, 10**9), "T-0"))
        assert registers.answer.hold_until_ms - int(time.time() * 1000) <= Rules(0).hold_max_ms


async def test_an_allowance_is_given_in_part_where_there_is_less(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        await give(relay, 600)
        # As a relay asks: nothing is bought yet, so the share of the receipt that points may pay is nobody's concern.
        hold = HoldRequest(new_id(), 0, card(0), 2_000, receipt(0), True)
        assert approved(await relay.ask(hold, "R-1")).answer.points == 600
        assert await available(relay) == 0


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


async def test_live_requests_go_before_those_of_a_backlog(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = Headquarters(postgres_url, valkey_url, broker_url, tmp_path, bridge_backlog_at_once_max=1)
    await hq.prepare()
    async with hq.worker(), hq.relay() as relay:
        backlog = [earn(number % 9) for number in range(60)]
        live = earn(9)
        relay.publish([relay.item(each, sale_ms=NOW_MS) for each in backlog] + [relay.item(live)])
        approved(await relay.reply(live.request_id))
        assert sum(each.request_id in relay.replies for each in backlog) < 30
        for each in backlog:
            approved(await relay.reply(each.request_id))
    await hq.verify()


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


async def test_a_changed_allowance_holds_for_the_next_reservation(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        await give(relay, 5_000)
        async with hq.database() as connection:
            relay_id = await connection.fetchval("SELECT terminal_id FROM terminal WHERE code = 'R-1'")
            assert await relays.set_allowance(connection, relay_id, 100, None)
        assert worker.bridge is not None
        sessions = worker.bridge._sessions
        await until(lambda: all(session.relay.allowance_points == 100 for session in sessions))
        hold = HoldRequest(new_id(), 0, card(0), 101, receipt(1_000_000), True)
        assert refused(await relay.ask(hold, "R-1")) == ErrorCode.MALFORMED


async def test_advices_come_and_are_answered_over_a_connection_of_their_own(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        assert worker.bridge is not None
        live, backlog = worker.bridge._broker, worker.bridge._backlog_broker
        heard: dict[str, list[str]] = {"live": [], "backlog": []}
        said: dict[str, int] = {"live": 0, "backlog": 0}
        for name, broker in (("live", live), ("backlog", backlog)):
            assert broker._line is not None
            handler, send = broker._line._handler, broker._line.send

            def spy(message: Any, name: str = name, handler: Any = handler) -> None:
                heard[name].append(message.topic.rsplit("/", 1)[-1])
                handler(message)

            def count(*arguments: Any, name: str = name, send: Any = send) -> Any:
                said[name] += 1
                return send(*arguments)

            broker._line._handler, broker._line.send = spy, count  # type: ignore[method-assign]
        advice, request = earn(1), earn(2)
        relay.publish([relay.item(advice, sale_ms=NOW_MS)], suffix=BACKLOG_SUFFIX)
        approved(await relay.reply(advice.request_id))
        assert (heard, said) == ({"live": [], "backlog": [f"{relay.line.bridge}.backlog"]}, {"live": 0, "backlog": 1})
        relay.publish([relay.item(request)])
        approved(await relay.reply(request.request_id))
        assert (heard["live"], said) == ([relay.line.bridge], {"live": 1, "backlog": 1})


async def test_no_relay_is_let_in_before_its_backlog_could_come(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = hq.make_worker()
    await worker.start()
    try:
        assert worker.bridge is not None
        bridge = worker.bridge
        await until(lambda: bool(bridge.figures()["connected"]))
        async with hq.relay(sign_on=False) as relay:
            backlog = bridge._backlog_broker._line
            monkeypatch.setattr(bridge._backlog_broker, "_line", None)
            bridge._changed(True)
            relay.say_hello()
            await until(lambda: bridge.figures().get("refused_too_early_total"))
            assert not relay.welcomes
            monkeypatch.setattr(bridge._backlog_broker, "_line", backlog)
            bridge._changed(True)
            await relay.sign_on()
    finally:
        await worker.stop()


async def test_answers_to_a_backlog_gather_and_the_last_lets_them_go(hq: Headquarters) -> None:
    async with hq.worker(bridge_backlog_at_once_max=1) as worker, hq.relay() as relay:
        assert worker.bridge is not None
        before = worker.bridge.figures()["publications_out_total"]
        backlog = [earn(number % 9) for number in range(40)]
        relay.publish([relay.item(each, sale_ms=NOW_MS) for each in backlog], suffix=BACKLOG_SUFFIX)
        for each in backlog:
            approved(await relay.reply(each.request_id))
        # One by one they were booked; each by itself would be 40 publications.
        assert worker.bridge.figures()["publications_out_total"] - before <= 20
