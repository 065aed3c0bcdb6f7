"""What a relay may spend while it is alone: reserved while it is not, bounded, and captured afterwards."""

import time

from ledger.programme import Rules
from ledger.registry import relays
from protocol.codes import ErrorCode, Message, StatusState
from protocol.requests import (
    EarnRequest,
    HoldRequest,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReverseRequest,
    StatusRequest,
)
from server.bridge.limits import ALLOWANCE_GRACE_MS
from tests.rigs.advices_rig import DAY_MS, HOUR_MS, NOW_MS, available, hq
from tests.rigs.relay_rig import HandRelay, Headquarters, approved, card, new_id, receipt, redeem, refused, until

__all__ = ["hq"]


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
