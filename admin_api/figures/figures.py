"""The figures of a period: series by step, from tallies, the journal's roll-up and samples, with their bands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from admin_api.figures.bands import DAYS_MAX, HOURS_MS, Noise, Value, band, marks
from admin_api.figures.figure_steps import DAY_MS, HOUR_MS, MINUTE_MS, Asked, Grid, days_before, grid_for, spans_to_read
from admin_api.figures.gathering import KEEP_MINUTES, KEEP_SAMPLES_MS
from admin_api.office import Office
from admin_api.problem import not_found
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from ledger.operations import Outcome
from ledger.programme import Programme
from ledger.registry import figures
from ledger.registry.figures import Scope
from ledger.registry.registry import Row

Unit: TypeAlias = Literal["per_s", "count", "points", "amount", "ms"]

_APPROVED_LAST = int(Outcome.APPROVED_PARTIAL)
_RECENT_MINUTES = 5
_EVERYTHING = Scope()

_NOISE: dict[str, Noise] = {
    "answers_per_s": Noise(least=1.0),
    "approvals": Noise(least=5, counts=True),
    "declines": Noise(least=5, counts=True),
    "issued": Noise(least=10_000),
    "spent": Noise(least=10_000),
    "receipts": Noise(least=5, counts=True),
    "average_receipt": Noise(least=100),
    "p50_ms": Noise(least=1.0),
    "p99_ms": Noise(least=5.0),
    "queue": Noise(least=20.0),
    "lag_ms": Noise(least=20.0),
}


_OF_PROCESS: tuple[tuple[str, Unit], ...] = (
    ("answers_per_s", "per_s"), ("p50_ms", "ms"), ("p99_ms", "ms"), ("queue", "count"), ("lag_ms", "ms"),
    ("connections", "count"),
)  # fmt: skip
_OF_JOURNAL: tuple[tuple[str, Unit], ...] = (
    ("issued", "points"), ("spent", "points"), ("expired", "points"), ("receipts", "count"), ("activated", "count"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Read:
    """What PostgreSQL said: rows by step, and since when (ms) tallies and the roll-up are complete."""

    tallies: list[Row]
    flows: list[Row]
    samples: list[Row]
    standings: list[Row]
    tallies_since_ms: int
    flows_since_ms: int


def scope_of(actor: Actor, network_id: int | None, store_id: int | None) -> Scope:
    """Return whose figures an actor asks for. Raises a Problem (403)."""
    actor.check(Permission.FIGURES_READ)
    return Scope(actor.partner_id, network_id, store_id)


async def series(office: Office, actor: Actor, asked: Asked) -> dict[str, Any]:
    """Return every series of a period as in `FiguresAnswer`. Raises a Problem (400, 403, 404).

    What concerns the whole process or all accounts is left out where only a part is asked for, or may be.
    """
    scope = scope_of(actor, asked.network_id, asked.store_id)
    now_ms, programme = office.clock.now_ms(), office.programme
    coarse = grid_for(programme, asked, now_ms, fine=False)
    fine = grid_for(programme, asked, now_ms, fine=True)
    async with office.registry.reading() as transaction:
        currencies = await figures.currencies(transaction, scope)
        if not currencies and scope != _EVERYTHING:
            raise not_found("such network or store")
        read = await _read(transaction, programme, coarse, fine, scope, now_ms)
    plot = _Plotting(programme, coarse)
    if scope == _EVERYTHING:
        found = [_series(name, unit, fine, _column(read.samples, name), programme) for name, unit in _OF_PROCESS]
        found += [plot.of("outstanding", "points", _column(read.standings, "balance"))]
        found += [plot.of(name, "count", _column(read.standings, name)) for name in ("cards_issued", "cards_active")]
    else:
        counts = plot.filled(_answers(read.tallies, lambda _: True), read.tallies_since_ms)
        rates = {at: round(count * 1_000 / coarse.step_ms, 3) for at, count in counts.items()}
        found = [plot.of("answers_per_s", "per_s", rates)]
    found += _of_tallies(plot, read)
    found += [
        plot.of(name, unit, plot.filled(_column(read.flows, name, MINUTE_MS), read.flows_since_ms))
        for name, unit in _OF_JOURNAL
    ]
    if len(currencies) == 1:
        receipts = {row["step"] * MINUTE_MS: row["amount"] // row["receipts"] for row in read.flows if row["receipts"]}
        found.append(plot.of("average_receipt", "amount", receipts))
    return {
        "from_ms": coarse.from_ms,
        "to_ms": coarse.to_ms,
        "step_ms": coarse.step_ms,
        "currency": currencies[0] if len(currencies) == 1 else None,
        "series": found,
    }


async def _read(transaction: Any, programme: Programme, coarse: Grid, fine: Grid, scope: Scope, now_ms: int) -> _Read:
    keep_ms = now_ms - KEEP_MINUTES * MINUTE_MS
    spans = spans_to_read(coarse, programme, MINUTE_MS, keep_ms=keep_ms)
    steps = (coarse.step_ms // MINUTE_MS, coarse.offset_ms // MINUTE_MS)
    since = [(await figures.oldest(transaction, what) or now_ms) * MINUTE_MS for what in ("tally", "flow")]
    if coarse.step_ms < HOUR_MS:
        since = [max(at, keep_ms) for at in since]
    samples, standings = [], []
    if scope == _EVERYTHING:
        fine_spans = spans_to_read(fine, programme, 1, keep_ms=now_ms - KEEP_SAMPLES_MS)
        samples = await figures.samples(transaction, fine_spans, fine.step_ms, fine.offset_ms)
        period = ([coarse.from_ms], [coarse.to_ms])
        standings = await figures.standings(transaction, period, coarse.step_ms, coarse.offset_ms)
    return _Read(
        await figures.tallies(transaction, spans, *steps, scope),
        await figures.flows(transaction, spans, *steps, scope),
        samples, standings, *since,
    )  # fmt: skip


def _of_tallies(plot: _Plotting, read: _Read) -> list[dict[str, Any]]:
    def counted(keep: Callable[[int], bool]) -> dict[int, Any]:
        return plot.filled(_answers(read.tallies, keep), read.tallies_since_ms)

    outcomes = {row["outcome"] for row in read.tallies if row["step"] * MINUTE_MS >= plot.grid.from_ms}
    return [
        plot.of("approvals", "count", counted(lambda outcome: outcome <= _APPROVED_LAST)),
        plot.of("declines", "count", counted(lambda outcome: outcome > _APPROVED_LAST)),
        *(
            plot.of("declines_by_code", "count", counted(code.__eq__), _outcome_name(code))
            for code in sorted(outcomes)
            if code > _APPROVED_LAST
        ),
    ]


async def now(
    office: Office, actor: Actor, network_id: int | None = None, store_id: int | None = None
) -> dict[str, Any]:
    """Return the latest figures as in `FiguresNow`; those of the process only to who may see the whole of it."""
    scope = scope_of(actor, network_id, store_id)
    now_ms = office.clock.now_ms()
    minute = now_ms // MINUTE_MS
    span = ([minute - _RECENT_MINUTES], [minute + 1])
    async with office.registry.reading() as transaction:
        if scope != _EVERYTHING and not await figures.currencies(transaction, scope):
            raise not_found("such network or store")
        tallied = await figures.tallies(transaction, span, 1, 0, scope)
        sample = standing = None
        if scope == _EVERYTHING:
            sample = await figures.last_sample(transaction)
            standing = await figures.last_standing(transaction)
    by_code: defaultdict[str, int] = defaultdict(int)
    for row in tallied:
        if row["outcome"] > _APPROVED_LAST:
            by_code[_outcome_name(row["outcome"])] += row["count"]
    answered = sum(row["count"] for row in tallied)
    return {
        "at_ms": now_ms,
        "recent_ms": _RECENT_MINUTES * MINUTE_MS,
        "approvals": answered - sum(by_code.values()),
        "declines": sum(by_code.values()),
        "declines_by_code": dict(by_code),
        "process": {"at_ms": sample["at_ms"], **orjson.loads(sample["figures"])} if sample else None,
        "standing": dict(standing) if standing else None,
    }


@dataclass(frozen=True, slots=True)
class _Plotting:
    """Makes series of the steps of one grid."""

    programme: Programme
    grid: Grid

    def of(self, name: str, unit: Unit, known: Mapping[int, Value], code: str | None = None) -> dict[str, Any]:
        """Return a series of these values by step."""
        return _series(name, unit, self.grid, known, self.programme, code)

    def filled(self, known: Mapping[int, Value], since_ms: int) -> dict[int, Any]:
        """Return the values, with 0 where nothing was counted although counting had begun."""
        grid = self.grid
        first = grid.floor(max(since_ms, grid.from_ms - DAYS_MAX * DAY_MS - HOURS_MS))
        return dict.fromkeys(range(first, grid.to_ms, grid.step_ms), 0) | dict(known)


def _series(
    name: str, unit: Unit, grid: Grid, known: Mapping[int, Value], programme: Programme, code: str | None = None
) -> dict[str, Any]:
    values = [known.get(step) for step in grid.steps]
    answer: dict[str, Any] = {
        "name": name, "code": code, "unit": unit, "from_ms": grid.from_ms, "step_ms": grid.step_ms, "values": values,
        "low": None, "high": None, "basis": None, "marks": [],
    }  # fmt: skip
    noise = _NOISE.get(name)
    if noise is None:
        return answer
    usually = band(
        grid.steps, known, grid.step_ms, noise, lambda at, days: grid.floor(days_before(programme, at, days))
    )
    if usually.basis is not None:
        places = 3 if unit in ("per_s", "ms") else None

        def rounded(value: float | None) -> Value:
            return value if value is None else round(value, places)

        found = marks(grid.steps, values, usually, grid.step_ms)
        answer |= {
            "low": [rounded(v) for v in usually.low],
            "high": [rounded(v) for v in usually.high],
            "basis": usually.basis,
            "marks": [
                {"from_ms": m.from_ms, "until_ms": m.until_ms, "value": m.value, "low": rounded(m.low),
                 "high": rounded(m.high), "side": m.side}
                for m in found
            ],
        }  # fmt: skip
    return answer


def _answers(rows: Iterable[Mapping[str, Any]], keep: Callable[[int], bool]) -> dict[int, Value]:
    counts: defaultdict[int, int] = defaultdict(int)
    for row in rows:
        if keep(row["outcome"]):
            counts[row["step"] * MINUTE_MS] += row["count"]
    return dict(counts)


def _column(rows: Iterable[Mapping[str, Any]], name: str, unit_ms: int = 1) -> dict[int, Value]:
    found = ((row["step"] * unit_ms, row[name]) for row in rows)
    return {at: round(value, 3) if isinstance(value, float) else value for at, value in found}


def _outcome_name(outcome: int) -> str:
    try:
        return Outcome(outcome).name.lower()
    except ValueError:
        return f"outcome_{outcome}"
