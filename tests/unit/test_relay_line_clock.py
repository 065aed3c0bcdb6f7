"""Headquarters' time at a relay whose own clock cannot be trusted."""

from dataclasses import dataclass

from server.relay.line_clock import KeptClock, LineClock

HEARD_MS = 1_800_000_000_000


@dataclass
class Computer:
    """A clock as `ledger.clock.Clock`; a small computer without a battery begins at 1970."""

    wall_ms: int = 0
    on_s: float = 5.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_s(self) -> float:
        return self.on_s


def test_a_computer_that_forgot_the_time_does_not_sell_before_headquarters_was_heard_last() -> None:
    computer = Computer()
    clock = LineClock(computer, KeptClock(0, HEARD_MS), lambda _: None)
    assert clock.server_now_ms() is None
    assert clock.now_ms() == HEARD_MS
    computer.on_s += 60
    assert clock.now_ms() == HEARD_MS + 60_000
    computer.wall_ms = HEARD_MS + 3_600_000
    assert clock.now_ms() == HEARD_MS + 3_600_000, "somebody set it"


def test_without_any_memory_the_wall_clock_is_all_there_is() -> None:
    assert LineClock(Computer(77), None, lambda _: None).now_ms() == 77
