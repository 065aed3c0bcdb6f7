"""Figures of a made-up chain: some days of tallies, flow, samples and standings with the rhythm of shopping."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from ledger.operations import Operation, Outcome

MINUTE_MS = 60_000
_DECLINES = (
    (Outcome.INSUFFICIENT, 0.020), (Outcome.UNKNOWN_CARD, 0.008), (Outcome.CARD_BLOCKED, 0.004),
    (Outcome.BELOW_MINIMUM, 0.006),
)  # fmt: skip


def load_at(minutes_ago: int) -> float:
    """Return how busy shops are, 0 to 1: quiet at night, a peak at noon and a higher one in the evening.

    It is always five in the afternoon there, so that tests see the same at night.
    """
    hour = (17 * 60 - minutes_ago) % 1_440 / 60
    noon = math.exp(-(((hour - 12.5) / 2.2) ** 2))
    evening = math.exp(-(((hour - 18.0) / 2.0) ** 2))
    return 0.02 + 0.7 * noon + 0.95 * evening


async def fill(db: Any, now_ms: int, days: int, *, stores: dict[int, tuple[int, float]], trouble_ms: int = 0) -> None:
    """Fill the tables up to now; `stores` are (network, share) by store id.

    `trouble_ms` ago cards began to be declined and latency rose, for 40 minutes.
    """
    chance = random.Random(7)  # noqa: S311 - the same figures each time
    last = now_ms // MINUTE_MS
    tally, flow = [], []
    for minute in range(last - days * 1_440, last + 1):
        trouble = trouble_ms and last - trouble_ms // MINUTE_MS <= minute < last - trouble_ms // MINUTE_MS + 40
        for store_id, (network_id, share) in stores.items():
            sales = round(2_200 * share * load_at(last - minute) * chance.uniform(0.85, 1.15))
            redeems = round(sales * 0.25)
            for op, count in ((Operation.SALE, sales), (Operation.REDEEM, redeems)):
                tally.append((minute, store_id, int(op), int(Outcome.APPROVED), count))
                flow.append((
                    minute, store_id, network_id, int(op), count, sales if op == Operation.SALE else 0,
                    sum(chance.choices((1_900, 2_400, 3_600), k=3)) * sales // 3 if op == Operation.SALE else 0, 0,
                    redeems * 450 if op == Operation.REDEEM else 0, sales * 110 if op == Operation.SALE else 0,
                ))  # fmt: skip
            for outcome, part in _DECLINES:
                worse = 12 if trouble and outcome == Outcome.CARD_BLOCKED else 1
                count = round(sales * part * worse * chance.uniform(0.5, 1.5))
                if count:
                    tally.append((minute, store_id, int(Operation.REDEEM), int(outcome), count))
            if minute % 1_440 == 0:
                flow.append((minute, store_id, network_id, int(Operation.EXPIRE_LOTS), 50, 0, 0, -40_000, 0, 0))
    await db.copy_records_to_table("tally", schema_name="office", records=tally)
    await db.copy_records_to_table("flow", schema_name="office", records=flow)
    await db.execute(
        """INSERT INTO office.network_tally SELECT minute, network_id, outcome, sum(count)
        FROM office.tally JOIN unnest($1::integer[], $2::integer[]) AS s (store_id, network_id) USING (store_id)
        GROUP BY 1, 2, 3""",
        list(stores), [network_id for network_id, _ in stores.values()],
    )  # fmt: skip
    await db.execute(
        """INSERT INTO office.network_flow SELECT minute, network_id, op, sum(entries), sum(receipts), sum(amount),
        sum(points), sum(spent), sum(earned) FROM office.flow GROUP BY 1, 2, 3"""
    )
    await _samples(db, now_ms, days, chance, trouble_ms)
    await _standings(db, now_ms, days)


async def _samples(db: Any, now_ms: int, days: int, chance: random.Random, trouble_ms: int) -> None:
    records = []
    at_ms = now_ms - days * 86_400_000
    while at_ms < now_ms:
        # As fine as in production only where the periods of the tests look.
        at_ms += 5_000 if (now_ms - at_ms) % 86_400_000 < 5_400_000 else 60_000
        load = load_at((now_ms - at_ms) // MINUTE_MS)
        trouble = trouble_ms and now_ms - trouble_ms <= at_ms < now_ms - trouble_ms + 2_400_000
        p50 = 0.8 + 1.2 * load * chance.uniform(0.9, 1.1)
        figures = {
            "answers_per_s": round(1_400 * load * chance.uniform(0.92, 1.08), 3),
            "p50_ms": round(p50, 3),
            "p99_ms": round(p50 * chance.uniform(4, 5) * (9 if trouble else 1), 3),
            "queue": float(round(12 * load * chance.uniform(0.5, 1.5))),
            "lag_ms": round(1 + 6 * load * chance.uniform(0.8, 1.2), 3),
            "connections": float(round(900 + 300 * load)),
            "standby": 0.0,
        }
        records.append((at_ms, json.dumps(figures)))
    await db.copy_records_to_table("sample", schema_name="office", records=records)


async def _standings(db: Any, now_ms: int, days: int) -> None:
    first = now_ms - days * 86_400_000
    await db.copy_records_to_table(
        "standing",
        schema_name="office",
        records=[
            (at, 512_340, 8_412_345_00 + (at - first) // 200, 1_204_00, 3_410_00, 640_000 + (at - first) // 9_000_000,
             598_000 + (at - first) // 10_000_000)
            for at in range(first, now_ms, 600_000)
        ],
    )  # fmt: skip
