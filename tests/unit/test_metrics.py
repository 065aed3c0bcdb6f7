from prometheus_client import generate_latest

from protocol.codes import ErrorCode, Goodbye, Message, Outcome
from server.observation.metrics import LATENCY_BOUNDS_S, Metrics


def lines(metrics: Metrics) -> set[str]:
    metrics.flush()
    return set(generate_latest(metrics.registry).decode().splitlines())


def test_answers_are_counted_by_operation_and_outcome_once() -> None:
    metrics = Metrics()
    for outcome in (Outcome.APPROVED, Outcome.APPROVED, Outcome.INSUFFICIENT):
        metrics.answered(7, Message.REDEEM, outcome, 0.003, replayed=False)
    metrics.answered(7, Message.REDEEM, Outcome.APPROVED, 0.003, replayed=True)
    for _ in range(2):
        found = lines(metrics)
        assert 'tillwire_answers_total{operation="REDEEM",outcome="APPROVED"} 3.0' in found
        assert 'tillwire_answers_total{operation="REDEEM",outcome="INSUFFICIENT"} 1.0' in found
        assert "tillwire_replays_total 1.0" in found


def test_latencies_fall_into_the_bucket_that_bounds_them() -> None:
    metrics = Metrics()
    for seconds in (*LATENCY_BOUNDS_S, 100.0):
        metrics.answered(7, Message.SALE, Outcome.APPROVED, seconds, replayed=False)
    found = lines(metrics)
    for number, bound in enumerate(LATENCY_BOUNDS_S, 1):
        assert f'tillwire_request_seconds_bucket{{le="{bound}",operation="SALE"}} {float(number)}' in found
    count = len(LATENCY_BOUNDS_S) + 1
    assert f'tillwire_request_seconds_bucket{{le="+Inf",operation="SALE"}} {float(count)}' in found
    assert f'tillwire_request_seconds_count{{operation="SALE"}} {float(count)}' in found


def test_errors_and_goodbyes_have_names() -> None:
    metrics = Metrics()
    metrics.refused(Message.HOLD, ErrorCode.BUSY)
    metrics.refused(0, ErrorCode.MALFORMED)
    metrics.ended(Goodbye.TOO_LARGE)
    found = lines(metrics)
    assert 'tillwire_errors_total{code="BUSY",operation="HOLD"} 1.0' in found
    assert 'tillwire_errors_total{code="MALFORMED",operation="other"} 1.0' in found
    assert 'tillwire_goodbyes_total{reason="TOO_LARGE"} 1.0' in found


def test_running_totals_are_added_by_what_they_grew() -> None:
    metrics = Metrics()
    for vetoes, queued in ((3, 10), (3, 20), (5, 0)):
        metrics.ledger({"vetoes_total": vetoes, "queued_requests": queued, "ready": True, "name": "x"})
    found = lines(metrics)
    assert 'tillwire_ledger_events_total{event="vetoes"} 5.0' in found
    assert 'tillwire_ledger{figure="queued_requests"} 0.0' in found
    assert not any('"ready"' in line or '"name"' in line for line in found)


def test_answers_are_taken_once_by_store_whatever_was_flushed_before() -> None:
    metrics = Metrics()
    metrics.answered(7, Message.SALE, Outcome.APPROVED, 0.003, replayed=False)
    metrics.flush()
    metrics.answered(7, Message.SALE, Outcome.APPROVED, 0.003, replayed=False)
    metrics.answered(8, Message.SALE, Outcome.INSUFFICIENT, 0.003, replayed=False)
    assert metrics.take_answered() == {
        (7, Message.SALE, Outcome.APPROVED): 2,
        (8, Message.SALE, Outcome.INSUFFICIENT): 1,
    }
    assert metrics.take_answered() == {}
