"""One card in the hands of 256 registers at once: every point is spent exactly once, and how fast.

    python -m tests.measurements.hot_card [--registers 256] [--points 10000] [--attempts 20000] [--rounds 1]

Each attempt is a request of its own that spends one point. Prints a table, and one JSON object as its last line; exits
with 1 when approvals, journal and answers are not what they must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from ledger.hot_store import HotStore
from ledger.verify import verify
from loadtests.processor_time import processor_s
from protocol.codes import ErrorCode, Outcome
from protocol.requests import Card, EarnRequest, Receipt, RedeemRequest, Request
from server.population.history import EARN_RATE_BP
from server.population.programme import CURRENCY
from server.programme_setup import numbered_card
from tests.measurements.lean_register import LeanRegister, Tally, answer_all, sign_on
from tests.measurements.premises import Premises

POINT = 100
_TTL_MS = 60_000


@dataclass
class Found:
    """What one round brought. Rates are attempts a second, latencies milliseconds, processor times microseconds."""

    registers: int
    points: int
    attempts: int
    approvals: int
    declines: int
    errors: dict[str, int]
    elapsed_s: float
    rate_per_s: int
    approvals_per_s: int
    p50_ms: float
    p99_ms: float
    processor_us_per_attempt: dict[str, float]
    faults: list[str] = field(default_factory=list)


async def measure(premises: Premises, registers: int, points: int, attempts: int, rounds: int = 1) -> list[Found]:
    """Spend `points` on a fresh card by `attempts`, as many rounds as asked, with engines and server running."""
    cards = [numbered_card(number) for number in range(rounds)]
    await premises.enrol(cards)
    await premises.until_listening()
    terminals = [premises.terminal(number) for number in range(registers)]
    rows = []
    connected = await sign_on(premises.host, premises.port, terminals, premises.secret, Tally())
    for card in cards:
        worth = Receipt(points * POINT * 10_000 // EARN_RATE_BP, CURRENCY, "opening")
        await answer_all(connected[:1], [EarnRequest(os.urandom(16), _TTL_MS, card, worth, None, 0)])
        spend = Receipt(0, CURRENCY)
        asked: list[Request] = [RedeemRequest(os.urandom(16), _TTL_MS, card, POINT, spend) for _ in range(attempts)]
        rows.append(await _round(premises, connected, asked, points))
    for register in connected:
        register.close()
    return rows


async def _round(premises: Premises, connected: list[LeanRegister], asked: list[Request], points: int) -> Found:
    tally = Tally()
    for register in connected:
        register.tally = tally
    before, began = _processors(premises), time.perf_counter()
    elapsed_s = await answer_all(connected, asked)
    spent = {name: round((s - before[name]) / len(asked) * 1e6, 1) for name, s in _processors(premises).items()}
    found = Found(
        registers=len(connected),
        points=points,
        attempts=len(asked),
        approvals=tally.outcomes[Outcome.APPROVED],
        declines=tally.outcomes[Outcome.INSUFFICIENT],
        errors={ErrorCode(code).name: count for code, count in tally.errors.items()},
        elapsed_s=round(elapsed_s, 3),
        rate_per_s=int(len(asked) / elapsed_s),
        # The points are gone before the attempts are, so the approvals have a time of their own.
        approvals_per_s=int(tally.outcomes[Outcome.APPROVED] / (tally.approved_at_s - began)),
        p50_ms=tally.percentile_ms(0.5),
        p99_ms=tally.percentile_ms(0.99),
        processor_us_per_attempt=spent,
    )
    found.faults = await _compare(premises, asked[0].card, tally, found)
    return found


async def _compare(premises: Premises, card: Card, tally: Tally, found: Found) -> list[str]:
    sql = "SELECT e.* FROM entry e JOIN card c USING (account_id) WHERE c.token = $1 ORDER BY e.seq"
    entries = await premises.fetch(sql, premises.token(card))
    wrong = faults(found, tally, entries)
    deadlocks = (await premises.fetch("SELECT sum(deadlocks)::integer AS n FROM pg_stat_database"))[0]["n"]
    if deadlocks:
        wrong.append(f"PostgreSQL counted {deadlocks} deadlocks")
    await _proved(premises)
    return wrong


def faults(found: Found, tally: Tally, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare what was heard with the card's whole journal; return what is wrong in words."""
    wrong = []
    expected = min(found.points, found.attempts)
    others = tally.outcomes - Counter({Outcome.APPROVED: found.approvals, Outcome.INSUFFICIENT: found.declines})
    if others:
        wrong.append(f"outcomes that nobody expects: {dict(others)}")
    if (found.approvals, found.declines) != (expected, found.attempts - expected):
        wrong.append(f"{found.approvals} approvals and {found.declines} declines, not {expected} approvals")
    spends = {entry["request_id"]: entry for entry in entries if entry["spent"]}
    if len(spends) != expected or sum(entry["spent"] for entry in spends.values()) != expected * POINT:
        wrong.append(f"{len(spends)} spends stand in the journal, not {expected}")
    if entries[-1]["balance_after"] != (found.points - expected) * POINT:
        wrong.append(f"the journal's last balance is {entries[-1]['balance_after']}")
    if [entry["seq"] for entry in entries] != list(range(1, len(entries) + 1)):
        wrong.append("the journal has a gap")
    denied = [
        request_id
        for request_id, body in tally.bodies.items()
        if (body[1] == Outcome.APPROVED) != (request_id in spends)
        or (request_id in spends and spends[request_id]["answer"] != body)
    ]
    if denied:
        wrong.append(f"{len(denied)} answers are not what the journal says, the first to {denied[0].hex()}")
    return wrong


async def _proved(premises: Premises) -> None:
    """Recompute every row of the journal. Raises ledger.audit.BadRow."""
    hot_store = HotStore.at(premises.valkey.url, timeout_s=10.0)
    try:
        await verify(premises.postgres.url, hot_store, premises.keys.seal_key, lambda _done, _total: None)
    finally:
        await hot_store.close()


def _processors(premises: Premises) -> dict[str, float]:
    return {
        "server": processor_s(premises.server.pid),
        "valkey": processor_s(premises.valkey.pid),
        "postgresql": processor_s(premises.postgres.pid),
        "registers": sum(os.times()[:2]),
    }


def _show(rows: list[Found]) -> None:
    console = Console(stderr=True, width=120)
    table = Table("registers", "attempts", "approvals", "declines", "errors", "attempts/s", "approvals/s", "p50 ms",
                  "p99 ms", title="one card, one point an attempt")  # fmt: skip
    for row in rows:
        errors = ", ".join(f"{count} {name}" for name, count in row.errors.items()) or "none"
        figures = (row.registers, row.attempts, row.approvals, row.declines, errors, row.rate_per_s)
        table.add_row(*map(str, (*figures, row.approvals_per_s, row.p50_ms, row.p99_ms)))
    console.print(table)
    for name, us in rows[-1].processor_us_per_attempt.items():
        console.print(f"{name:<12}{us:>7} us of processor time an attempt")
    for fault in (fault for row in rows for fault in row.faults):
        console.print(f"WRONG: {fault}", style="bold red")


async def _run(options: argparse.Namespace, folder: Path) -> list[Found]:
    premises = Premises(folder, settings={"workers": str(options.workers)})
    try:
        premises.start_engines()
        await premises.found(options.registers)
        premises.start_server()
        return await measure(premises, options.registers, options.points, options.attempts, options.rounds)
    finally:
        premises.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Many registers spend one card at once.")
    parser.add_argument("--registers", type=int, default=256)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--attempts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3, help="each on a card of its own; the last is the result")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    # What others do on this machine is in the figures too.
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="tillwire-hot-card-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows = runner.run(_run(options, folder))
    _show(rows)
    found = {"rounds": [asdict(row) for row in rows], "load_before": load, **asdict(rows[-1])}
    print(json.dumps(found))  # noqa: T201
    sys.exit(1 if any(row.faults for row in rows) else 0)


if __name__ == "__main__":
    main()
