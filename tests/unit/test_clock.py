from server.registers.clock import SteadyClock


class Times:
    def __init__(self) -> None:
        self.wall_s = 1_789_300_800.0
        self.monotonic_s = 77.0

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


def clock_of(times: Times) -> SteadyClock:
    return SteadyClock(lambda: times.wall_s, lambda: times.monotonic_s)


def test_it_tells_the_time_of_day() -> None:
    times = Times()
    clock = clock_of(times)
    times.pass_(12.5)
    clock.follow()
    assert clock.now_ms() == 1_789_300_812_500


def test_a_wall_clock_that_is_put_right_is_followed_slowly_and_never_backwards() -> None:
    for jump_s in (3_600.0, -3_600.0):
        times = Times()
        clock = clock_of(times)
        times.wall_s += jump_s
        before = clock.now_ms()
        for _ in range(100):
            times.pass_(1.0)
            clock.follow()
            assert 899 <= clock.now_ms() - before <= 1_101
            before = clock.now_ms()


def test_it_arrives_at_the_wall_clock() -> None:
    times = Times()
    clock = clock_of(times)
    times.wall_s += 2.0
    for _ in range(30):
        times.pass_(1.0)
        clock.follow()
    assert abs(clock.now_ms() - times.wall_s * 1_000) <= 1
