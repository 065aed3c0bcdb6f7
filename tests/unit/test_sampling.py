from prometheus_client import generate_latest

from admin_api.figures.sampling import Scrape, figures_between, quantile, scrape
from protocol.codes import Message, Outcome
from server.observation.metrics import Metrics


def test_rates_and_latencies_of_an_interval_are_read_from_what_workers_export() -> None:
    metrics = Metrics()
    texts = []
    for count in (0, 200):
        for _ in range(count):
            metrics.answered(1, Message.SALE, Outcome.APPROVED, 0.003, replayed=False)
        metrics.ledger({"queued_requests": 7, "partitions_standby": 1})
        metrics.journal_lag(0.25)
        metrics.connections(42)
        metrics.flush()
        texts.append(generate_latest(metrics.registry))
    found = figures_between(scrape(texts[0], 0), scrape(texts[1], 5_000))
    assert found["answers_per_s"] == 40.0
    assert 2.0 < found["p50_ms"] < found["p99_ms"] <= 4.0
    assert (found["queue"], found["lag_ms"], found["connections"], found["standby"]) == (7.0, 250.0, 42.0, 1.0)


def test_without_answers_there_is_a_rate_of_nought_and_no_latency() -> None:
    found = figures_between(scrape(b"", 0), scrape(b"", 5_000))
    assert found["answers_per_s"] == 0.0
    assert "p99_ms" not in found


def test_totals_that_fell_are_counted_since_the_restart() -> None:
    found = figures_between(Scrape(0, 1_000.0), Scrape(5_000, 10.0))
    assert found["answers_per_s"] == 2.0


def test_a_quantile_above_every_bound_is_the_last_bound() -> None:
    assert quantile({1.0: 0.0, 2.0: 1.0, float("inf"): 10.0}, 0.99) == 2.0
    assert quantile({1.0: 10.0, float("inf"): 10.0}, 0.5) == 0.5
    assert quantile({}, 0.5) is None
