from server.registers.timer_wheel import TimerWheel


class Alarm:
    """Notes when it rings and may set itself anew."""

    def __init__(self, wheel: TimerWheel) -> None:
        self.due_tick = 0
        self.rang: list[int] = []
        self.again_ms: int | None = None
        self._wheel = wheel

    def on_due(self, now_ms: int) -> None:
        self.rang.append(now_ms)
        if self.again_ms is not None:
            again_ms, self.again_ms = self.again_ms, None
            self._wheel.schedule(self, again_ms)


def ring(wheel: TimerWheel, alarm: Alarm, until_ms: int, start_ms: int = 1_000) -> list[int]:
    for now_ms in range(start_ms, until_ms + 1, 10):
        wheel.advance(now_ms)
    return alarm.rang


def test_an_alarm_rings_once_at_or_after_its_time() -> None:
    for due_ms in (1_001, 1_049, 1_050, 1_051, 1_990):
        wheel = TimerWheel(1_000, 50)
        alarm = Alarm(wheel)
        wheel.schedule(alarm, due_ms)
        (rang_ms,) = ring(wheel, alarm, 3_000)
        assert due_ms <= rang_ms <= due_ms + 60
        assert len(wheel) == 0


def test_one_that_is_overdue_rings_at_the_next_turn() -> None:
    wheel = TimerWheel(1_000, 50)
    alarm = Alarm(wheel)
    wheel.schedule(alarm, 10)
    assert ring(wheel, alarm, 1_050) == [1_000]


def test_a_later_time_does_not_move_it_and_an_earlier_one_does() -> None:
    wheel = TimerWheel(1_000, 50)
    alarm = Alarm(wheel)
    wheel.schedule(alarm, 1_500)
    wheel.schedule(alarm, 2_500)
    assert len(wheel) == 1
    wheel.schedule(alarm, 1_200)
    assert len(wheel) == 1
    assert ring(wheel, alarm, 3_000) == [1_200]


def test_a_cancelled_one_is_silent_and_forgotten() -> None:
    wheel = TimerWheel(1_000, 50)
    alarm = Alarm(wheel)
    wheel.cancel(alarm)
    wheel.schedule(alarm, 1_500)
    wheel.cancel(alarm)
    assert len(wheel) == 0
    assert ring(wheel, alarm, 3_000) == []


def test_one_may_set_itself_anew_while_ringing_even_for_now() -> None:
    wheel = TimerWheel(1_000, 50)
    alarm = Alarm(wheel)
    alarm.again_ms = 1_100
    wheel.schedule(alarm, 1_100)
    assert ring(wheel, alarm, 3_000) == [1_100, 1_150]


def test_a_stalled_loop_rings_everything_that_is_due() -> None:
    wheel = TimerWheel(1_000, 50)
    alarms = [Alarm(wheel) for _ in range(20)]
    for number, alarm in enumerate(alarms):
        wheel.schedule(alarm, 1_000 + number * 100)
    wheel.advance(60_000)
    assert all(alarm.rang == [60_000] for alarm in alarms)
