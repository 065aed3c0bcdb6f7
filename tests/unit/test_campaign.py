"""The small parts of the campaign that need no process."""

from pathlib import Path

from ledger.clock import SystemClock
from tests.campaign.faults import FAULTS
from tests.campaign.report import Report, line_of
from tests.campaign.rounds import Round, draw
from tests.campaign.wrong_clock import WrongClock, set_offset
from tests.judge.events import ANSWERED, SENT, Event


def event(at_ms: int, name: str, kind: str, outcome: int | None = None) -> Event:
    return Event(at_ms, "1", kind, name.encode().ljust(16), "REDEEM", 1, outcome=outcome)


def a_round(*faults: str) -> Round:
    events = [
        event(90, "before", SENT),
        event(105, "after", SENT),
        event(110, "before", ANSWERED, 0),
        event(150, "after", ANSWERED, 127),
        event(900, "after", ANSWERED, 1),
        event(950, "before", ANSWERED, 0),
    ]
    return Round(1, faults, struck_ms=100, broken_ms=102, events=events)


def test_a_round_tells_its_requests_and_its_silence() -> None:
    done = a_round("x")
    assert (done.requests, done.approved) == (2, 2)
    assert done.silence_ms() == 750
    # What was sent before the strike proves nothing about the time after it.
    assert done.first_approval_ms() == 798
    assert Round(1, ()).first_approval_ms() is None


def test_rounds_are_drawn_by_the_seed_and_strike_every_kind_in_turn() -> None:
    drawn = [draw(7, number) for number in range(len(FAULTS))]
    assert drawn == [draw(7, number) for number in range(len(FAULTS))]
    assert drawn != [draw(8, number) for number in range(len(FAULTS))]
    assert {names[0] for names in drawn} == set(FAULTS)
    assert {len(names) for names in drawn} == {1, 2}


def test_a_report_adds_up_and_times_only_faults_that_struck_alone() -> None:
    report = Report(7, "tmpfs", {"workers": 2})
    breached = a_round("x")
    breached.verdict.report("lost", "an approval")
    report.add(breached)
    report.add(a_round("x", "y"))
    told = report.as_dict()
    assert (told["rounds"], told["requests"], told["approved"], told["faults"], told["lost"]) == (2, 4, 4, 3, 1)
    assert told["kinds"] == {
        "x": {"struck": 2, "longest_silence_ms": 750, "first_approval_ms": 798},
        "y": {"struck": 1, "longest_silence_ms": None, "first_approval_ms": None},
    }
    assert "BREACHES" in line_of(breached)
    assert "clean" in line_of(a_round("x", "y"))


def test_a_wrong_clock_is_as_wrong_as_its_file_says(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    set_offset(path, 0)
    clock = WrongClock(path)
    assert abs(clock.now_ms() - SystemClock().now_ms()) < 60_000
    for offset_ms in (-7_200_000, 7_200_000):
        set_offset(path, offset_ms)
        assert abs(clock.now_ms() - SystemClock().now_ms() - offset_ms) < 60_000
