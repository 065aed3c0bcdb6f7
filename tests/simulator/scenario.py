"""One seed, one scenario: an installation, its registers, what goes wrong, and the verdict when all is at rest."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from ledger.operations import Operation
from ledger.programme import Rules
from server.settings import Settings
from tests.judge.events import Event
from tests.judge.judge import judge
from tests.judge.verdict import Verdict
from tests.simulator.faults import FAULTS, Site
from tests.simulator.installation import Installation
from tests.simulator.lines import Lines
from tests.simulator.logs import captured
from tests.simulator.loop import Loop, Process, RanAway, current_process
from tests.simulator.network import Tap as LineTap
from tests.simulator.postgres_tables import ENTRY_COLUMNS
from tests.simulator.programme import tables, till
from tests.simulator.register import SimulatedRegister, Town
from tests.simulator.tap import Asked, Tap

#: Virtual seconds: for the day's business, then for its end, and for the whole scenario.
_BUSINESS_S, _SECONDS_MAX = 25.0, 240.0
_HOLDS_S, _REST_S = 6.0, 0.3
_DAY_MS = 86_400_000
_START_MS = 20_000 * _DAY_MS
_GRACE_MS = 2_500
_POLL_S = 0.1
_TROUBLES_SHOWN_MAX = 3

Trace = Callable[[str], None]


@dataclass
class Outcome:
    """What became of a scenario."""

    seed: int
    verdict: Verdict
    troubles: list[str]
    counts: Counter[str]
    faults: list[str]
    virtual_s: float = 0.0
    steps: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return self.verdict.clean and not self.troubles

    def told(self) -> str:
        """Return the outcome in words."""
        lines = [f"seed {self.seed}: {self.virtual_s:.3f} virtual seconds, faults: {', '.join(self.faults) or 'none'}"]
        lines += self.troubles[:_TROUBLES_SHOWN_MAX]
        lines += [str(self.verdict)] if self.verdict.counts or self.clean else []
        lines.append(", ".join(f"{name} {count}" for name, count in sorted(self.counts.items())))
        return "\n".join(lines)


@dataclass
class _Plan:
    """What the seed has drawn."""

    settings: Settings
    registers: int
    requests: int
    active: int
    issued: int
    rules: Rules
    other_rules: Rules
    start_ms: int
    faults: list[tuple[float, str]] = field(default_factory=list)


@cache
def _settings(workers: int, partitions: int, redis_ms: int, postgres_ms: int) -> Settings:
    return Settings(
        workers=workers,
        partitions=partitions,
        redis_timeout_ms=redis_ms,
        postgres_timeout_ms=postgres_ms,
        drain_timeout_ms=2_000,
        ttl_default_ms=2_000,
        reconnect_after_ms=100,
        settle_interval_ms=500,
        handshake_timeout_ms=1_500,
    )


def _draw(dice: Random) -> _Plan:
    workers = dice.choice((1, 1, 2, 2, 3))
    expiry_days = dice.choice((0, 0, 1, 2))
    rules = Rules(
        valid_from_ms=0,
        earn_rate_bp=dice.choice((500, 1_000)),
        expiry_days=expiry_days,
        activation_days=dice.choice((0, 0, 0, 1)),
        day_count_max=dice.choice((0, 0, 0, 5)),
        terminal_day_points_max=dice.choice((0, 0, 0, 1_500)),
        hold_default_ms=dice.choice((800, 2_000)),
        hold_max_ms=3_000,
        holds_max=3,
        slip=("{spent} {available}",),
    )
    start_ms = _START_MS - dice.choice((0, 0, 3_000, 6_000)) + dice.randrange(1_000)
    plan = _Plan(
        settings=_settings(
            workers, dice.choice((1, workers, workers + 1)), dice.choice((300, 2_000)), dice.choice((800, 3_000))
        ),
        registers=dice.randint(2, 6),
        requests=dice.randint(10, 60),
        active=dice.choice((1, 2, 3, 4, 12)),
        issued=dice.choice((0, 1, 2)),
        rules=rules,
        other_rules=Rules(valid_from_ms=0, earn_rate_bp=300, hold_default_ms=1_000, hold_max_ms=2_000),
        start_ms=start_ms,
    )
    names = list(FAULTS)
    for _ in range(dice.choice((0, 1, 2, 3, 4, 5))):
        # While there is business: at the opening, or in the midst of it.
        plan.faults.append((dice.random() * (0.1 + 0.15 * plan.requests / plan.registers), dice.choice(names)))
    plan.faults.sort()
    return plan


def _dice(seed: int) -> Random:
    """Return what draws; every part of a scenario has its own, so that a draw more in one leaves the others alone."""
    return Random(seed)  # noqa: S311 - it must be repeatable, not secret


def _told(event: Event) -> str:
    """Return an event in a line: what differs from the usual is said, and ids are cut to what tells them apart."""
    words = [f"{event.event} {event.op} {event.request_id.hex()[:12]} card {event.card} line {event.line}"]
    words += [f"{name} {value}" for name in ("points", "amount", "outcome", "balance", "status")
              if (value := getattr(event, name)) is not None]  # fmt: skip
    if event.target is not None:
        words.append(f"target {event.target.hex()[:12]}")
    return " ".join([*words, *(["replayed"] if event.replayed else [])])


class Scenario:
    """A scenario in the making; `run` plays it once."""

    def __init__(self, seed: int, trace: Trace | None = None) -> None:
        self._seed = seed
        self._trace = trace
        dice = _dice(seed)
        self._plan = plan = _draw(dice)
        self._dice = _dice(dice.getrandbits(64))
        self._loop = Loop(_dice(dice.getrandbits(64)), seconds_max=_SECONDS_MAX)
        self._counts: Counter[str] = Counter()
        self._troubles: list[str] = []
        self._events: list[Event] = []
        self._lines = 0
        self._told = Lines(self._troubles.append)
        partitions = plan.settings.partitions
        made = tables(plan.rules, plan.other_rules, plan.registers, plan.active, plan.issued, partitions)
        self._installation = Installation(
            self._loop, _dice(dice.getrandbits(64)), self._counts, plan.settings, made, plan.start_ms, self._broken
        )
        self._town = Town(Asked(plan.active, plan.issued), self._note, self._troubles.append, plan.active, plan.issued)
        self._installation.network.tap = self._tap
        clock = self._installation.clock
        self._registers = [
            SimulatedRegister(n, till(n), self._loop, _dice(dice.getrandbits(64)), self._town, clock.true_ms)
            for n in range(plan.registers)
        ]

    def run(self) -> Outcome:
        """Play it and judge it."""
        with captured(self._logged, quiet=self._trace is None):
            self._say("plan", f"{self._plan}")
            try:
                self._loop.run(self._play())
            except RanAway as ran:
                self._troubles.append(f"ran away at {self._loop.time():.3f} s: {ran}; {self._who_is_left()}")
            self._installation.end()
            self._loop.end()
        for process, where, error in self._loop.failures:
            name = "the world" if process is None else process.name
            text = "".join(traceback.format_exception(error))
            self._troubles.append(f"unhandled in {name}, {where.split(' at 0x')[0]}:\n{text}")
        verdict = self._judge()
        return Outcome(
            self._seed,
            verdict,
            self._troubles,
            self._counts,
            [name for _, name in self._plan.faults],
            self._loop.time(),
            self._loop.steps,
        )

    async def _play(self) -> None:
        installation, plan = self._installation, self._plan
        installation.start()
        each = max(1, plan.requests // plan.registers)
        for register in self._registers:
            register.plug_in(each)
        site = Site(installation, self._registers, self._dice)
        striking = [asyncio.ensure_future(self._strike(site, at_s, name)) for at_s, name in plan.faults]
        await self._until(lambda: all(not r.busy for r in self._registers), _BUSINESS_S)
        await asyncio.gather(*striking)
        installation.heal()
        self._say("the world", "healed")
        await self._until(lambda: all(not r.busy for r in self._registers), _SECONDS_MAX)
        settling = [r.process.start(r.settle(), f"{r.name} settles") for r in self._registers]
        await self._until(lambda: all(task.done() for task in settling), _SECONDS_MAX)
        # What is held is let go when its time has come, without anybody asking.
        accounts = installation.postgres.tables.rows["account"]
        await self._until(lambda: not any(row["held"] for row in accounts.values()), _HOLDS_S)
        await asyncio.sleep(_REST_S)
        self._say("the world", "at rest")

    async def _strike(self, site: Site, at_s: float, name: str) -> None:
        await asyncio.sleep(at_s)
        self._say("fault", f"{name} begins")
        await FAULTS[name](site)
        self._say("fault", f"{name} is over")

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = self._loop.time() + seconds
        while not holds() and self._loop.time() < deadline:
            await asyncio.sleep(_POLL_S)

    def _judge(self) -> Verdict:
        database = self._installation.postgres.tables
        entries = [dict(zip(ENTRY_COLUMNS, row, strict=True)) for row in database.entries()]
        accounts = [row for _, row in sorted(database.rows["account"].items())]
        if not any(name == "clock_wrong" for _, name in self._plan.faults):
            self._told.check_refusals(entries)
        if not self._counts["vetoes"]:
            self._told.check_order()
        journaled = {entry["request_id"] for entry in entries if entry["op"] != Operation.TOMBSTONE}
        for request_id, register in self._town.untouched.items():
            self._counts["told that nothing happened"] += 1
            if request_id in journaled:
                self._troubles.append(
                    f"{register} was told that {request_id.hex()[:12]} had no effect, but it is journaled"
                )
        self._counts["entries"] += len(entries)
        self._counts.update(f"entries {Operation(entry['op']).name}" for entry in entries)
        clock = self._installation.clock
        return judge(self._events, entries, accounts, now_ms=clock.now_ms(), grace_ms=_GRACE_MS, clock_error_ms=1_500)

    # ---- what is heard of it

    def _tap(self, process: Process) -> LineTap:
        self._lines += 1
        return Tap(self._town.asked, self._note, self._installation.clock.true_ms, process.name, self._lines)

    def _note(self, event: Event) -> None:
        self._events.append(event)
        self._told.take(event)
        self._counts[f"copies {event.event}"] += 1
        if self._trace is not None:
            self._say(event.register, _told(event))

    def _logged(self, process: str, level: str, event: dict[str, Any]) -> None:
        self._counts[f"logged {level}"] += 1
        if self._trace is not None:
            self._say(process, f"{level}: {event}")
        if level in ("critical", "exception"):
            self._troubles.append(f"{process} logged {level} at {self._loop.time():.3f} s: {event}")

    def _broken(self, what: str, error: BaseException) -> None:
        self._troubles.append(what + ":\n" + "".join(traceback.format_exception(error)))

    def _say(self, who: str, what: str) -> None:
        if self._trace is not None:
            self._trace(f"{self._loop.time():10.6f} {who}: {what}")

    def _who_is_left(self) -> str:
        process = current_process()
        busy = [r.name for r in self._registers if r.busy]
        return f"{len(busy)} registers are busy {busy} {'' if process is None else process.name}"
