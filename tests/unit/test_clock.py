from server.registers.clock import SteadyClock


class Times:
    def __init__(self) -> None:
        self.wall_ms = 1_789_300_800_000
        self.seconds = 77.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_s(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.wall_ms += int(seconds * 1_000)
        self.seconds += seconds


def test_it_tells_the_time_of_day() -> None:
    times = Times()
    clock = SteadyClock(times)
    times.pass_(12.5)
    clock.follow()
    assert clock.now_ms() == 1_789_300_812_500


def test_a_wall_clock_that_is_put_right_is_followed_slowly_and_never_backwards() -> None:
    for jump_ms in (3_600_000, -3_600_000):
        times = Times()
        clock = SteadyClock(times)
        times.wall_ms += jump_ms
        before = clock.now_ms()
        for _ in range(100):
            times.pass_(1.0)
            clock.follow()
            assert 899 <= clock.now_ms() - before <= 1_101
            before = clock.now_ms()


def test_it_arrives_at_the_wall_clock() -> None:
    times = Times()
    clock = SteadyClock(times)
    times.wall_ms += 2_000
    for _ in range(30):
        times.pass_(1.0)
        clock.follow()
    assert abs(clock.now_ms() - times.wall_ms) <= 1
