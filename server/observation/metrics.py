"""What a worker counts, for Prometheus. The hot path adds to plain numbers; `flush` hands them over now and then.

With `PROMETHEUS_MULTIPROC_DIR` set in a worker's environment, every worker keeps its numbers in files of that folder
and the admin process adds them up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from protocol.codes import OPERATION_FIRST, OPERATION_LAST, ErrorCode, Goodbye, Message, Outcome

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LATENCY_BOUNDS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 5.0, 30.0)
#: Answers by store, operation and outcome.
Counted: TypeAlias = dict[tuple[int, int, int], int]
_OPERATIONS = tuple(op for op in Message if OPERATION_FIRST <= op <= OPERATION_LAST)


class _CountedHistogram(Histogram):
    """A histogram that takes observations already sorted into buckets, many at a time."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add `counts` observations per bucket (the last one for those above every bound) that sum up to `total`."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class _Latencies:
    """Latencies of one operation since the last flush."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.total += seconds

    def flush(self, histogram: _CountedHistogram) -> None:
        if any(self.counts):
            histogram.add(self.counts, self.total)
            self.counts = [0] * len(self.counts)
            self.total = 0.0


class Metrics:
    """The numbers of one worker."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register in `registry`; a fresh one is made if there is none, so that two workers fit in one process."""
        self.registry = registry if registry is not None else CollectorRegistry()
        self._answered: defaultdict[tuple[int, int, int], int] = defaultdict(int)
        self._untaken: Counted = {}
        self._errors: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._replays = 0
        self._latencies = {int(op): _Latencies() for op in _OPERATIONS}
        self._reported: dict[str, float] = {}
        self._closed: defaultdict[int, int] = defaultdict(int)
        self._define()

    def _define(self) -> None:
        registry = self.registry
        self._answers_total = Counter(
            "tillwire_answers",
            "Requests answered, by operation and outcome.",
            ["operation", "outcome"],
            registry=registry,
        )
        self._errors_total = Counter(
            "tillwire_errors",
            "Requests refused with ERROR, by operation and code.",
            ["operation", "code"],
            registry=registry,
        )
        self._replays_total = Counter(
            "tillwire_replays", "Answers that were given before and sent again.", registry=registry
        )
        self._seconds = _CountedHistogram(
            "tillwire_request_seconds",
            "From a request's last byte to its answer, by operation.",
            ["operation"],
            buckets=LATENCY_BOUNDS_S,
            registry=registry,
        )
        self._goodbyes_total = Counter(
            "tillwire_goodbyes", "Connections that the server ended, by reason.", ["reason"], registry=registry
        )
        self._connections = Gauge(
            "tillwire_connections", "Open connections of registers.", registry=registry, multiprocess_mode="livesum"
        )
        self._journal_lag = Gauge(
            "tillwire_journal_lag_seconds",
            "Age of the oldest batch that is decided and not committed.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._ledger_gauge = Gauge(
            "tillwire_ledger",
            "Figures of the ledger: queued requests, entries waiting for PostgreSQL, and the like.",
            ["figure"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._ledger_total = Counter(
            "tillwire_ledger_events", "Events of the ledger: vetoes, loads, reloads.", ["event"], registry=registry
        )
        self._bridge_gauge = Gauge(
            "tillwire_bridge",
            "Figures of the bridge to stores: relays, requests in flight, whether the broker is there.",
            ["figure"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._bridge_total = Counter(
            "tillwire_bridge_events",
            "Events of the bridge: publications, requests, advices, conflicts, and what was refused by reason.",
            ["event"],
            registry=registry,
        )
        self._histograms = {int(op): self._seconds.labels(op.name) for op in _OPERATIONS}

    def answered(self, store_id: int, op: int, outcome: int, seconds: float, *, replayed: bool) -> None:
        """Count an answer to a terminal of a store; `seconds` since its request was complete."""
        self._answered[store_id, op, outcome] += 1
        if replayed:
            self._replays += 1
        self._latencies[op].observe(seconds)

    def refused(self, op: int, code: int) -> None:
        """Count a request that got an ERROR; op 0 where the operation could not be read."""
        self._errors[op, code] += 1

    def ended(self, reason: int) -> None:
        """Count a connection that ended with a GOODBYE of the server."""
        self._closed[reason] += 1

    def connections(self, count: int) -> None:
        """Set the number of open connections."""
        self._connections.set(count)

    def ledger(self, figures: Mapping[str, object]) -> None:
        """Take the ledger's figures: numbers that end in `_total` only ever grow, the others are as they are now."""
        self._take(figures, self._ledger_gauge, self._ledger_total, "")

    def _take(self, figures: Mapping[str, object], gauge: Gauge, counter: Counter, subject: str) -> None:
        for name, value in figures.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not name.endswith("_total"):
                gauge.labels(name).set(value)
                continue
            grown = value - self._reported.get(subject + name, 0)
            self._reported[subject + name] = value
            if grown > 0:
                counter.labels(name.removesuffix("_total")).inc(grown)

    def bridge(self, figures: Mapping[str, int]) -> None:
        """Take the figures of the bridge to stores, named as in `ledger`."""
        self._take(figures, self._bridge_gauge, self._bridge_total, "bridge ")

    def journal_lag(self, seconds: float) -> None:
        """Set the age of the oldest batch that is decided and not committed."""
        self._journal_lag.set(seconds)

    def take_answered(self) -> Counted:
        """Return the answers since the last call, by store, operation and outcome."""
        self.flush()
        taken, self._untaken = self._untaken, {}
        return taken

    def flush(self) -> None:
        """Hand over what was counted since the last call."""
        for key, count in self._answered.items():
            _, op, outcome = key
            self._answers_total.labels(_name(Message, op), _name(Outcome, outcome)).inc(count)
            self._untaken[key] = self._untaken.get(key, 0) + count
        self._answered.clear()
        for (op, code), count in self._errors.items():
            self._errors_total.labels(_name(Message, op), _name(ErrorCode, code)).inc(count)
        self._errors.clear()
        for reason, count in self._closed.items():
            self._goodbyes_total.labels(_name(Goodbye, reason)).inc(count)
        self._closed.clear()
        if self._replays:
            self._replays_total.inc(self._replays)
            self._replays = 0
        for op, latencies in self._latencies.items():
            latencies.flush(self._histograms[op])


def added_up(folder: Path) -> bytes:
    """Return the metrics that processes, past and present, keep in a folder, in the Prometheus text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _name(codes: type[Message | Outcome | ErrorCode | Goodbye], value: int) -> str:
    try:
        return codes(value).name
    except ValueError:
        return "other"
