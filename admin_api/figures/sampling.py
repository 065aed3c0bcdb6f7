"""What the metrics say of the time between two looks at them: pure functions over Prometheus's text format."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_MS_PER_S = 1_000


@dataclass(frozen=True, slots=True)
class Scrape:
    """The numbers of a moment: running totals of answers and of latencies by bucket (upper bound in s), and gauges."""

    at_ms: int
    answers: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)


def scrape(text: bytes, at_ms: int) -> Scrape:
    """Return what is of interest in metrics as /metrics has them; what is missing is 0."""
    answers = 0.0
    buckets: defaultdict[float, float] = defaultdict(float)
    gauges: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == "tillwire_answers_total":
                answers += sample.value
            elif sample.name == "tillwire_request_seconds_bucket":
                buckets[float(sample.labels["le"])] += sample.value
            elif sample.name == "tillwire_journal_lag_seconds":
                gauges["lag_ms"] = sample.value * _MS_PER_S
            elif sample.name == "tillwire_connections":
                gauges["connections"] = sample.value
            elif sample.name == "tillwire_ledger":
                gauges[sample.labels["figure"]] = sample.value
    return Scrape(at_ms, answers, dict(buckets), gauges)


def figures_between(before: Scrape, after: Scrape) -> dict[str, float]:
    """Return rates and latencies of the time between, and the gauges as they are; no latency without an answer.

    Totals that fell were begun anew, by a restart: all they count is since then.
    """
    restarted = after.answers < before.answers
    answers = after.answers if restarted else after.answers - before.answers
    counts = {
        bound: count if restarted else count - before.buckets.get(bound, 0.0) for bound, count in after.buckets.items()
    }
    found = {
        "answers_per_s": round(answers * _MS_PER_S / max(1, after.at_ms - before.at_ms), 3),
        "queue": after.gauges.get("queued_requests", 0.0),
        "lag_ms": round(after.gauges.get("lag_ms", 0.0), 3),
        "connections": after.gauges.get("connections", 0.0),
        "standby": after.gauges.get("partitions_standby", 0.0),
    }
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        value = quantile(counts, share)
        if value is not None:
            found[name] = round(value * _MS_PER_S, 3)
    return found


def quantile(counts: dict[float, float], share: float) -> float | None:
    """Return the value below which this share lies, from cumulative counts by upper bound; None without observations.

    Within a bucket values are taken as spread evenly; above the last finite bound that bound is returned.
    """
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank = counts[bounds[-1]] * share
    lower, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank:
            inside = counts[bound] - below
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, counts[bound]
    return lower
