from typing import Any

from server.registers.log_budget import LogBudget


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))


def test_a_flood_is_cut_and_counted() -> None:
    log, now = Log(), [10.0]
    budget = LogBudget(log, lambda: now[0], lines_per_second=3)  # type: ignore[arg-type]
    for number in range(10):
        budget.warning("bad", number=number)
    assert log.lines == [("bad", {"number": number}) for number in range(3)]
    now[0] = 11.2
    budget.warning("bad", number=10)
    assert log.lines[3:] == [("log lines suppressed", {"count": 7}), ("bad", {"number": 10})]
