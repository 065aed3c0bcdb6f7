"""What a run of the benchmark leaves behind, from made-up figures."""

import io
import json
import re
import struct
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.bench.figures import Figures, Point
from loadtests.bench.goals import GOALS
from loadtests.bench.line_up import STAGES, chosen
from loadtests.bench.machine import Machine
from loadtests.bench.page import BEGIN, END, write_page
from loadtests.bench.picture import draw
from loadtests.bench.report import Report, figure_text, show
from loadtests.bench.stages import QUICK, Bench, Done, Run, Skipped, Wrong
from loadtests.installation import Installation

STAGES_DONE = [
    Done("pgbench", 3.5),
    Done("tls", 1.0, "Wrong: 3 redeems are missing"),
    Done("mqtt", 0.1, skipped="there is no Mosquitto here"),
]
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def report_of(**values: float) -> Report:
    figures = Figures()
    for name, value in values.items():
        figures.put(name, value)
    for number, curve in enumerate(("registers", "pgbench", "http_service", "offered", "pgbench_offered"), start=1):
        for at in (1, 64, 256):
            figures.add(curve, Point(at, 100.0 * at / number, 1.0 * number, 2.0 * number, None))
    machine = Machine("Some CPU", 2, 23.5, "Linux 6", "ext4", "2026-01-02T03:04:05+00:00", "0123456789ab", "3.11.7",
                      "18.6", "8.1.8", 0.25, 1.5)  # fmt: skip
    return Report("quick", machine, figures, STAGES_DONE)


def test_the_json_has_every_figure_goal_curve_and_the_machine_and_can_be_read_again(tmp_path: Path) -> None:
    report = report_of(redeem_256_per_s=30_000.0, pgbench_best_per_s=8_000.0, redis_bytes_per_account=390.5)
    path = tmp_path / "build" / "bench.json"
    report.write(path)
    told = json.loads(path.read_text("utf-8"))
    assert told["figures"] == {
        "redeem_256_per_s": 30_000.0, "pgbench_best_per_s": 8_000.0, "redis_bytes_per_account": 390.5,
        "redeem_256_to_pgbench_best": 3.75,
    }  # fmt: skip
    assert [goal["name"] for goal in told["goals"]] == [goal.name for goal in GOALS]
    assert told["goals"][0] == {
        "name": "redeem_256_to_pgbench_best", "text": GOALS[0].text, "value": 3.75, "goal": ">= 3", "verdict": "met",
        "distance": "25% above the bound",
    }  # fmt: skip
    assert told["goals"][1]["verdict"] == "not measured"
    assert (told["mode"], told["machine"]["cores"], told["machine"]["load_after"]) == ("quick", 2, 1.5)
    assert told["stages"][1] == {"name": "tls", "seconds": 1.0, "error": "Wrong: 3 redeems are missing", "skipped": ""}
    assert Report.read(path) == report


def test_the_picture_is_a_png_also_when_nothing_was_measured(tmp_path: Path) -> None:
    empty = Report("full", report_of().machine, Figures())
    for name, report in (("full.png", report_of(pgbench_best_per_s=9.0, ceiling_script_per_s=60.0)), ("e.png", empty)):
        draw(report, tmp_path / name)
        written = (tmp_path / name).read_bytes()
        assert written.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", written[16:24])
        assert width > height > 300


def test_the_terminal_names_what_was_missed_and_what_failed() -> None:
    heard = io.StringIO()
    show(report_of(redeem_256_per_s=10_000.0, pgbench_best_per_s=8_000.0), Console(file=heard, width=200))
    text = heard.getvalue()
    assert "missed, 58% below the bound" in text
    assert "goals missed: redeem_256_to_pgbench_best\n" in text
    assert "stage tls failed: Wrong: 3 redeems are missing" in text
    assert "stage mqtt skipped: there is no Mosquitto here" in text


def test_the_page_is_rewritten_between_its_markers_only_and_the_same_every_time(tmp_path: Path) -> None:
    page, picture = tmp_path / "performance.md", tmp_path / "build.png"
    picture.write_bytes(b"one picture")
    page.write_text(f"# Before\n\n{BEGIN}\nan older run\n{END}\n\n## After\n", "utf-8")
    report = report_of(redeem_256_per_s=10_000.0, pgbench_best_per_s=8_000.0)
    write_page(report, page, picture)
    once = page.read_text("utf-8")
    write_page(report, page, picture)
    assert page.read_text("utf-8") == once
    assert once.startswith(f"# Before\n\n{BEGIN}\n")
    assert once.endswith(f"{END}\n\n## After\n")
    assert "an older run" not in once
    assert "| `redeem_256_per_s` | 10,000 | durable redeems a second" in once
    assert "| >= 3 | 1.25 | **missed**, 58% below the bound |" in once
    assert "2026-01-02 03:04 UTC, git `0123456789ab`: 2 cores (Some CPU)" in once
    assert "stage `tls` failed: Wrong: 3 redeems are missing." in once
    assert "stage `mqtt` was skipped: there is no Mosquitto here." in once
    assert (tmp_path / "bench.png").read_bytes() == b"one picture"

    write_page(report_of(pgbench_best_per_s=8_001.0), page, picture)
    assert page.read_text("utf-8").count(BEGIN) == 1
    assert "8,001" in page.read_text("utf-8")


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{END} {BEGIN}", "utf-8")
    with pytest.raises(ValueError, match="bench:begin"):
        write_page(report_of(), page, tmp_path / "none.png")
    assert page.read_text("utf-8") == f"{END} {BEGIN}"


def test_the_page_of_this_project_has_the_markers_once() -> None:
    text = PAGE.read_text("utf-8")
    assert re.findall("<!-- bench:.*? -->", text) == [BEGIN, END]


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_345.6, "12,346"), (1000.4, "1,000"), (64, "64"), (3.14159, "3.14"), (0.39876, "0.399"), (0.0, "0")],
)
def test_figures_have_as_many_digits_as_count(value: float, text: str) -> None:
    assert figure_text(value) == text


class Stage:
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self._error = error

    def run(self, bench: Bench) -> None:
        bench.serve()
        bench.figures.put("pgbench_best_per_s" if self._error else "tls_256_per_s", 1.0)
        if self._error:
            raise self._error


class NotedInstallation(Installation):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def populate(self, accounts: int, terminals: int, **_more: int) -> None:
        self.told.append(f"populate {accounts}")

    def start_server(self, *, tls: bool = False, **settings: str) -> None:
        self.told.append(f"start {settings} {tls}")

    def stop_server(self) -> None:
        self.told.append("stop")


def test_a_stage_that_fails_names_itself_and_the_others_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    installation = NotedInstallation()
    run = Run(Bench(installation, QUICK, tmp_path, said.append))
    run.run([Stage("first", Wrong("2 redeems are missing")), Stage("second")])
    assert [(done.name, done.error) for done in run.done] == [("first", "Wrong: 2 redeems are missing"), ("second", "")]
    assert run.bench.figures.values == {"pgbench_best_per_s": 1.0, "tls_256_per_s": 1.0}
    assert "stage first FAILED: Wrong: 2 redeems are missing" in said
    # The server that the first left behind is not the second's.
    assert installation.told == ["populate 100000", "start {} False", "stop", "start {} False"]
    machine = report_of().machine
    assert Report("quick", machine, run.bench.figures, run.done).failed
    assert not Report("quick", machine, run.bench.figures, run.done[1:]).failed


def test_a_stage_that_this_machine_cannot_measure_is_no_failure(tmp_path: Path) -> None:
    said: list[str] = []
    run = Run(Bench(NotedInstallation(), QUICK, tmp_path, said.append))
    run.run([Stage("first", Skipped("there is no Mosquitto here"))])
    assert [(done.error, done.skipped) for done in run.done] == [("", "there is no Mosquitto here")]
    assert "stage first skipped: there is no Mosquitto here" in said
    assert not Report("quick", report_of().machine, run.bench.figures, run.done).failed


def test_the_server_is_started_anew_for_other_settings_only(tmp_path: Path) -> None:
    installation = NotedInstallation()
    bench = Bench(installation, QUICK, tmp_path, lambda _text: None)
    bench.serve()
    bench.serve()
    bench.serve(tls=True)
    bench.serve(tls=True, workers="2")
    bench.stop_serving()
    bench.stop_serving()
    assert installation.told[1:] == [
        "start {} False",
        "stop",
        "start {} True",
        "stop",
        "start {'workers': '2'} True",
        "stop",
    ]


def test_stages_are_chosen_by_name_in_their_own_order() -> None:
    assert chosen("") == list(STAGES)
    assert [stage.name for stage in chosen("ceilings, pgbench")] == ["pgbench", "ceilings"]
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    with pytest.raises(ValueError, match="no such stage: nonsense"):
        chosen("pgbench,nonsense")
