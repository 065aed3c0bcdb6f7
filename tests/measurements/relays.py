"""Stores come back: relays that were cut off for half an hour drain beside live traffic, over a bad line.

    python -m tests.measurements.relays [--stores 200] [--operations 500000] [--virtual-minutes 30]

The stores sell through their relays' own desk without a line, with times of sale over the virtual minutes. Then all of
them come back at once, over a real Mosquitto, to a real server; of what passes the broker, a tenth comes twice, a tenth
is overtaken and some of it is lost. Their files lie in memory and their processes are nice, as stores have disks and
processors of their own. Meanwhile 64 registers of another store redeem through its relay. Judged are the journal and
`tillwire verify` alone. Prints a table, and one JSON object as its last line; exits with 1 when anything is lost,
doubled or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg
from rich.console import Console
from rich.table import Table

from ledger.operations import Operation as Op
from loadtests.bench.traffic import warm
from loadtests.broker.echo import broker_version
from loadtests.generator.confirm import Mismatch, confirm
from loadtests.generator.load import Load
from loadtests.generator.outcome import Outcome, together
from loadtests.generator.process import run
from loadtests.generator.target import Target
from loadtests.installation import CHECKOUT, Installation
from loadtests.population import Population
from tests.measurements.bad_broker import Harm
from tests.measurements.offline_sales import Operation, Plan, sales

_LIVE_REGISTERS = 64
_FAULTS_MAX = 10
_MINUTE_MS = 60_000
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_ENTRIES = "SELECT request_id, op, account_id, points, target, sale_ms FROM entry WHERE request_id BETWEEN $1 AND $2"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `live_per_s` are redemptions a second; `patience_s` is how long a drain may take."""

    stores: int = 200
    operations: int = 500_000
    virtual_minutes: float = 30.0
    accounts: int = 100_000
    processes: int = 2
    live_per_s: float = 300.0
    live_s: float = 10.0
    patience_s: float = 900.0
    harm: Harm = field(default_factory=Harm)
    #: The server's.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: A store has a disk of its own; two hundred of them on headquarters' one would measure that. None: there.
    stores_folder: Path | None = _MEMORY if _MEMORY.is_dir() else None


@dataclass
class Found:
    """What came of it. Seconds and milliseconds as the names say; counts otherwise."""

    stores: int
    operations: int
    broker: str = ""
    load_before: float = 0.0
    load_after: float = 0.0
    selling_s: float = 0.0
    drained_s: float = 0.0
    drained_per_s: float = 0.0
    first_second_s: float = 0.0
    live_per_s: float = 0.0
    live_p50_alone_ms: float = 0.0
    live_p99_alone_ms: float = 0.0
    live_p50_draining_ms: float = 0.0
    live_p99_draining_ms: float = 0.0
    live_p99_ratio: float = 0.0
    live_errors: dict[str, int] = field(default_factory=dict)
    broker_did: dict[str, int] = field(default_factory=dict)
    us_per_operation: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    conflicts: int = 0
    verified_accounts: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, sentence: str) -> None:
        """Note what is wrong, in words; the first few."""
        if len(self.faults) < _FAULTS_MAX:
            self.faults.append(sentence)


class StoresProcess:
    """The child's end of a share of the stores."""

    def __init__(self, stores: dict[str, Any], job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.measurements.relay_stores"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**job, "stores": stores}) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            # It tells how it is until it ends, and must not wait for somebody to read that.
            self._process.stdout.read()
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def told(self) -> dict[str, Any]:
        """Return what it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of stores ended; what it logged is above")
        told: dict[str, Any] = json.loads(line)
        return told


class Measurement:
    """One installation whose engines run; `measure` does everything in turn."""

    def __init__(self, installation: Installation, size: Size, folder: Path, say: Console) -> None:
        self._installation, self._size, self._folder = installation, size, folder
        self._say = say
        self.found = Found(size.stores, size.operations // size.stores * size.stores)
        self._half = size.accounts // 2
        # Their own half of the cards, so that what a reversal takes back is still there.
        self._plan = Plan(
            os.urandom(8),
            size.operations // size.stores,
            self._half,
            size.accounts - self._half,
            int(time.time() * 1_000 - size.virtual_minutes * _MINUTE_MS),
            int(size.virtual_minutes * _MINUTE_MS),
        )

    def measure(self) -> Found:
        """Fill, measure alone, drain, judge."""
        installation, size, found = self._installation, self._size, self.found
        found.load_before = round(os.getloadavg()[0], 2)
        found.broker = broker_version(installation.mqtt_url or "") or "iotcore"
        installation.populate(
            size.accounts, _LIVE_REGISTERS, lots=2, relays=size.stores + 1, relay_terminals=_LIVE_REGISTERS
        )
        installation.start_server()
        # All accounts are in Redis, as in the middle of a day.
        warm(installation)
        self._sell()
        live = installation.start_relay(size.stores)
        alone = self._live(live, size.live_s)
        draining = self._drain(live)
        installation.stop_relays()
        self._compare(alone, draining)
        asyncio.run(self._judge())
        installation.stop_server()
        self._verify()
        found.load_after = round(os.getloadavg()[0], 2)
        return found

    def _shares(self) -> list[dict[str, Any]]:
        """Return which stores each process has."""
        people, size = self._installation.population, self._size
        shares = [range(share, size.stores, size.processes) for share in range(size.processes)]
        return [
            {
                "folder": str(self._folder),
                "numbers": list(numbers),
                "credentials": [people.relays[number] for number in numbers],
                "mqtt_url": self._installation.mqtt_url,
            }
            for numbers in shares
        ]

    def _sell(self) -> None:
        self._say.print(f"{self._size.stores} stores sell {self.found.operations:,} times, cut off")
        began = time.perf_counter()
        plan = {**asdict(self._plan), "prefix": self._plan.prefix.hex()}
        with ExitStack() as stack:
            job = {"do": "sell", "plan": plan}
            children = [stack.enter_context(StoresProcess(share, job)) for share in self._shares()]
            told = [child.told() for child in children]
        self.found.selling_s = round(time.perf_counter() - began, 1)
        approved = sum(one["approved"] for one in told)
        others = [one["others"] for one in told if one["others"]]
        if approved != self.found.operations or others:
            self.found.fault(f"{approved} of {self.found.operations} were approved off line, the others: {others}")

    def _live(self, live: Population, seconds: float) -> Outcome:
        load = Load(_LIVE_REGISTERS, seconds, rate_per_s=self._size.live_per_s, warm_up_s=0.5, cards=self._half)
        outcome = run(Target(live), load)
        try:
            confirm(self._installation.postgres_url, outcome)
        except Mismatch as mismatch:
            self.found.fault(str(mismatch))
        return outcome

    def _drain(self, live: Population) -> list[Outcome]:
        """Let all stores come back; return the live traffic of the time until their queues were empty."""
        found, size = self.found, self._size
        self._say.print("all stores come back")
        outcomes: list[Outcome] = []
        before = self._installation.processors()
        began = time.perf_counter()
        with ExitStack() as stack:
            job = {"do": "come_back", "harm": asdict(size.harm), "seed": 1}
            children = [stack.enter_context(StoresProcess(share, job)) for share in self._shares()]
            watch = Watch(children, found.operations, began)
            watch.start()
            while not watch.done.is_set() and time.perf_counter() < began + size.patience_s:
                ends = self._live(live, size.live_s)
                if not watch.done.is_set() or not outcomes:
                    outcomes.append(ends)
                p50_ms, p99_ms = ends.percentiles_ms(0.5, 0.99)
                self._say.print(f"{watch.queued:,} wait, live p50 {p50_ms:.1f} p99 {p99_ms:.1f} ms", highlight=False)
            watch.stop()
        used = self._installation.processors()
        found.us_per_operation = {
            name: round((used[name] - before[name]) / found.operations * 1e6, 1) for name in before if name in used
        } | {"stores": round(watch.cpu_s / found.operations * 1e6, 1)}
        if watch.failure:
            found.fault(watch.failure)
        if watch.queued:
            found.fault(f"{watch.queued} still wait after {size.patience_s:.0f} s")
        found.drained_s = round(watch.drained_s, 2)
        found.drained_per_s = round((found.operations - watch.queued) / watch.drained_s, 1) if watch.drained_s else 0.0
        found.first_second_s = round(watch.first_s, 2)
        found.broker_did = watch.did
        found.conflicts = watch.conflicts
        return outcomes

    def _compare(self, alone: Outcome, draining: Sequence[Outcome]) -> None:
        found, beside = self.found, together(draining)
        found.live_per_s = round(sum(one.approved for one in draining) / sum(one.seconds for one in draining), 1)
        found.live_p50_alone_ms, found.live_p99_alone_ms = alone.percentiles_ms(0.5, 0.99)
        found.live_p50_draining_ms, found.live_p99_draining_ms = beside.percentiles_ms(0.5, 0.99)
        found.live_p99_ratio = round(found.live_p99_draining_ms / max(found.live_p99_alone_ms, 0.001), 2)
        found.live_errors = dict(beside.errors)

    async def _judge(self) -> None:
        """Hold the journal against what the stores sold."""
        found, plan = self.found, self._plan
        connection = await asyncpg.connect(self._installation.postgres_url)
        try:
            cards = {
                row["token"]: row["account_id"] for row in await connection.fetch("SELECT token, account_id FROM card")
            }
            assert len(cards) == self._size.accounts
            conflicts = await connection.fetchval("SELECT count(*) FROM office.conflict")
            entries: dict[bytes, list[asyncpg.Record]] = {}
            async with connection.transaction():
                async for row in connection.cursor(_ENTRIES, *plan.bounds(), prefetch=5_000):
                    entries.setdefault(row["request_id"], []).append(row)
        finally:
            await connection.close()
        found.conflicts = max(found.conflicts, conflicts)
        if found.conflicts:
            found.fault(f"{found.conflicts} conflicts, where none is to be expected")
        for store in range(self._size.stores):
            earned: dict[bytes, int] = {}
            for operation in sales(plan, store):
                earned[operation.request.request_id] = operation.earned
                rows = entries.pop(operation.request.request_id, [])
                found.lost += not rows
                found.doubled += len(rows) > 1
                for row in rows[:1]:
                    points = -earned[operation.target] if operation.target else operation.earned
                    told = (row["op"], row["account_id"], row["points"], row["target"])
                    # Account i + 1 is that of card i.
                    expected = (operation.op, operation.card + 1, points, operation.target)
                    if told != expected or not self._in_time(row["sale_ms"], operation):
                        found.wrong += 1
                        found.fault(f"request {operation.request.request_id.hex()}: {dict(row)} instead of {expected}")
        if entries:
            found.wrong += len(entries)
            found.fault(f"{len(entries)} entries that no store asked for")
        if found.lost or found.doubled:
            found.fault(f"{found.lost} lost, {found.doubled} doubled")

    def _in_time(self, sale_ms: int, operation: Operation) -> bool:
        """Return whether the journal has the time of sale; reversals have none."""
        if operation.timed:
            return sale_ms == operation.sale_ms
        plan = self._plan
        return operation.op is Op.REVERSE or plan.begins_ms <= sale_ms <= plan.begins_ms + plan.lasts_ms

    def _verify(self) -> None:
        """Let the product prove its own books."""
        told = self._installation.verify()
        self.found.verified_accounts = told["accounts"]
        if not told["clean"]:
            self.found.fault(f"tillwire verify: {told}")


class Watch(threading.Thread):
    """Reads what the stores' processes tell, and notes when nothing waits any more."""

    def __init__(self, children: Sequence[StoresProcess], operations: int, began: float) -> None:
        super().__init__(daemon=True, name="stores' watch")
        self.done = threading.Event()
        self.queued = operations
        self.drained_s = self.first_s = self.cpu_s = 0.0
        self.conflicts = 0
        self.did: dict[str, int] = {}
        self.failure = ""
        self._children, self._began = children, began
        self._stopping = False

    def run(self) -> None:
        """Read until everything is drained and whoever asked wants no more."""
        try:
            while not self._stopping and not self.done.is_set():
                self._take([child.told() for child in self._children])
        except (RuntimeError, ValueError) as error:
            self.failure = str(error)
            self.done.set()

    def stop(self) -> None:
        """Read no more."""
        self._stopping = True
        self.join()

    def _take(self, told: list[dict[str, Any]]) -> None:
        before, now = self.queued, time.perf_counter() - self._began
        self.queued = sum(one["queued"] for one in told)
        if self.queued < before and not self.first_s:
            self.first_s = now
        self.drained_s = now
        self.cpu_s = sum(one["cpu_s"] for one in told)
        self.conflicts = sum(one["conflicts"] for one in told)
        self.did = dict(sum((Counter(one["did"]) for one in told), Counter()))
        if not self.queued:
            self.done.set()


def measure(folder: Path, size: Size, say: Console) -> Found:
    """Measure in a folder; everything is stopped afterwards."""
    with Installation(folder / "installation", settings=dict(size.settings)) as installation:
        installation.start_engines()
        with tempfile.TemporaryDirectory(prefix="tillwire-stores-", dir=size.stores_folder or folder) as stores:
            return Measurement(installation, size, Path(stores), say).measure()


def show(found: Found, console: Console) -> None:
    """Print a table, and what is wrong."""
    table = Table("what", "", title=f"{found.stores} stores come back with {found.operations:,} operations")
    for name, value in asdict(found).items():
        if name not in ("stores", "operations", "faults"):
            table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int | float) else str(value))
    console.print(table)
    for fault in found.faults:
        console.print(f"WRONG: {fault}", style="bold red", highlight=False)


def main() -> None:
    defaults = Size()
    parser = argparse.ArgumentParser(description="How stores that were cut off drain beside live traffic.")
    parser.add_argument("--stores", type=int, default=defaults.stores)
    parser.add_argument("--operations", type=int, default=defaults.operations, help="of all stores together")
    parser.add_argument("--virtual-minutes", type=float, default=defaults.virtual_minutes)
    parser.add_argument("--accounts", type=int, default=defaults.accounts)
    parser.add_argument("--processes", type=int, default=defaults.processes, help="that the stores' relays share")
    parser.add_argument("--live-per-s", type=float, default=defaults.live_per_s, help="redemptions of 64 registers")
    parser.add_argument("--live-s", type=float, default=defaults.live_s, help="length of one piece of live traffic")
    parser.add_argument("--stores-folder", type=Path, default=defaults.stores_folder, help="where their files lie")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the server")
    options = vars(parser.parse_args())
    settings = dict(one.split("=", 1) for one in options.pop("set"))
    console = Console(stderr=True, width=120)
    with tempfile.TemporaryDirectory(prefix="tillwire-relays-", dir=_on_disk(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        found = measure(folder, Size(**options, settings=settings), console)
    show(found, console)
    print(json.dumps(asdict(found)))  # noqa: T201
    sys.exit(1 if found.faults else 0)


def _on_disk() -> str | None:
    # /tmp is memory on many systems, where an fsync costs nothing.
    return "/var/tmp" if Path("/var/tmp").is_dir() else None  # noqa: S108 - a folder of our own is made in it


if __name__ == "__main__":
    main()
