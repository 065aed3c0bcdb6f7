"""The measurements at a small size: their sums must be right here, their times are nobody's business."""

import asyncio
from dataclasses import fields
from pathlib import Path

from protocol.codes import Outcome
from tests.conftest import SMALL
from tests.measurements import engine_statistics, hot_card, moving_in, operators_beside, recovery
from tests.measurements.allocation_counter import AllocationCounter
from tests.measurements.hot_card import POINT
from tests.measurements.lean_register import Tally
from tests.measurements.premises import Premises


async def test_one_card_in_many_hands_is_spent_to_the_last_point(own_folder: Path) -> None:
    premises = Premises(own_folder, postgres_options=SMALL)
    try:
        await asyncio.to_thread(premises.start_engines)
        await premises.found(terminals=24)
        premises.start_server()
        found = (await hot_card.measure(premises, registers=24, points=150, attempts=400))[0]
    finally:
        await asyncio.to_thread(premises.stop)
    assert found.faults == []
    assert (found.approvals, found.declines) == (150, 250)


def test_registers_are_measured_alone_and_beside_operators(own_folder: Path) -> None:
    plan = operators_beside.Plan(registers=4, operators=3, seconds=0.5, accounts=2_000, begin_s=1.0)
    rows = operators_beside.medians(operators_beside.compare(own_folder, plan, rounds=1))
    without, alone, beside, tireless = rows
    assert all(row["redeems_per_s"] > 0 and row["errors"] == row["operators_failed"] == 0 for row in rows), rows
    assert without["operators_per_s"] == alone["operators_per_s"] == 0, rows
    assert min(beside["operators_per_s"], tireless["operators_per_s"]) > 0, rows


def test_what_the_journal_does_not_bear_out_is_told() -> None:
    def row(number: int, **fields: object) -> dict[str, object]:
        spend = {"request_id": bytes([number]), "spent": POINT, "answer": b"\x96\x00", "seq": number + 1}
        return {**spend, "balance_after": (2 - number) * POINT, **fields}

    opening = {"request_id": b"", "spent": 0, "answer": b"", "seq": 1, "balance_after": 2 * POINT}
    tally = Tally(bodies={b"\x01": b"\x96\x00", b"\x02": b"\x96\x00", b"\x03": b"\x96\x7f"})
    tally.outcomes.update({Outcome.APPROVED: 2, Outcome.INSUFFICIENT: 1})
    found = hot_card.Found(1, 2, 3, 2, 1, {}, 1.0, 3, 2, 1.0, 1.0, {})
    assert hot_card.faults(found, tally, [opening, row(1), row(2)]) == []

    assert "journal has a gap" in str(hot_card.faults(found, tally, [opening, row(1), row(2, seq=4)]))
    assert "1 answers are not" in str(hot_card.faults(found, tally, [opening, row(1), row(2, answer=b"other")]))
    assert "1 answers are not" in str(hot_card.faults(found, tally, [opening, row(1), row(2, request_id=b"x")]))
    assert "last balance is -100" in str(hot_card.faults(found, tally, [opening, row(1), row(2), row(3)]))
    assert "3 spends stand" in str(hot_card.faults(found, tally, [opening, row(1), row(2), row(3)]))
    tally.outcomes[Outcome.ACCOUNT_LIMIT] = 1
    assert "nobody expects" in str(hot_card.faults(found, tally, [opening, row(1), row(2)]))
    found.approvals, found.declines = 3, 0
    assert "3 approvals and 0 declines" in str(hot_card.faults(found, tally, [opening, row(1), row(2), row(3)]))


async def test_accounts_opened_in_bulk_are_valid_and_outlive_everything_but_postgresql(own_folder: Path) -> None:
    premises = Premises(own_folder, postgres_options=SMALL)
    found = await recovery.measure(premises, accounts=600, cold=200, progress=lambda _done: None, verify_all=True)
    assert found.faults == []
    assert (found.verified_accounts, found.cold_accounts) == (600, 200)
    assert all(getattr(found, one.name) > 0 for one in fields(found) if one.name.endswith("_s"))


def test_allocations_are_counted_one_by_one() -> None:
    counter = AllocationCounter()
    kept: list[object] = [None] * 1000
    with counter:
        before = counter.count
        for number in range(250):
            kept[number] = object()
        counted = counter.count - before
    assert 250 <= counted < 270
    after = counter.count
    kept.extend(object() for _ in range(50))
    assert counter.count == after


def test_the_engines_tell_of_every_commit_and_every_call(own_folder: Path) -> None:
    found = engine_statistics.measure(own_folder, accounts=300, registers=8, seconds=1.0, explained_share=1.0)
    (commit,) = [row for row in found["statements"] if row["statement"].startswith("WITH fence AS")]
    assert commit["calls"] > 0
    assert "ModifyTable Insert entry CTE journaled" in [part["part"] for part in found["plans"]]
    assert found["commands"]["evalsha"]["calls"] >= commit["calls"]
    assert found["evalsha_latency_us"]


def test_a_small_chain_moves_in_and_its_totals_agree(own_folder: Path) -> None:
    found = moving_in.measure(own_folder, 50, again=True)
    assert found["faults"] == []
    assert found.keys() >= {"members", "cards", "balances", "balances_again", "total_s"}
