"""The drain at a small size: nothing is lost, doubled or wrong; its times are nobody's business."""

import io
from pathlib import Path

from rich.console import Console

from ledger.operations import Operation as Op
from protocol.requests import EarnRequest
from tests.measurements import relays
from tests.measurements.bad_broker import Harm
from tests.measurements.offline_sales import Plan, sales

WORSE = Harm(doubled=0.2, overtaken=0.2, lost=0.05)
SILENT = Console(file=io.StringIO())


def test_what_stores_sold_is_the_same_every_time_and_reversals_follow_what_they_reverse() -> None:
    plan = Plan(bytes(8), 2_000, first_card=500, cards=100, begins_ms=1_000_000, lasts_ms=60_000)
    sold = list(sales(plan, 3))
    assert sold == list(sales(plan, 3))
    assert len({one.request.request_id for one in (*sold, *sales(plan, 4))}) == 4_000
    assert {one.op for one in sold} == {Op.EARN, Op.SALE, Op.REVERSE}
    assert all(500 <= one.card < 600 for one in sold)
    assert [one.sale_ms for one in sold] == sorted(one.sale_ms for one in sold)
    assert 1_000_000 <= sold[0].sale_ms < sold[-1].sale_ms < 1_060_000
    seen: dict[bytes, int] = {}
    for one in sold:
        if one.target is not None:
            assert seen.pop(one.target) == one.card
        seen[one.request.request_id] = one.card
    least, greatest = plan.bounds()
    assert all(least <= one.request.request_id <= greatest for one in sold)
    assert all(one.request.receipt.amount == 20 * one.earned for one in sold if isinstance(one.request, EarnRequest))
    assert {one.timed for one in sold if one.op is Op.EARN} == {True, False}


def test_a_few_stores_drain_over_a_bad_line_beside_live_traffic(own_folder: Path) -> None:
    size = relays.Size(
        stores=5, operations=500, virtual_minutes=3, accounts=400, processes=2, live_per_s=40, live_s=1.0, harm=WORSE,
        settings={"workers": "2"},
    )  # fmt: skip
    found = relays.measure(own_folder, size, SILENT)
    assert found.faults == []
    assert (found.lost, found.doubled, found.wrong, found.conflicts) == (0, 0, 0, 0)
    assert found.verified_accounts == 400
    assert found.drained_per_s > 0 < found.live_per_s
    assert min(found.broker_did[kind] for kind in ("doubled", "overtaken")) > 0
