"""What a run leaves behind: tables on the terminal and `bench.json` (its picture and its page are made elsewhere)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.bench.figures import Figures, Point, meaning
from loadtests.bench.goals import Judged, Verdict, judge
from loadtests.bench.machine import Machine
from loadtests.bench.stages import Done

_COLOURS = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.NOT_MEASURED: "yellow"}


@dataclass
class Report:
    """One run: `mode` is quick or full, `stages` are all that ran."""

    mode: str
    machine: Machine
    figures: Figures
    stages: list[Done] = field(default_factory=list)

    @property
    def judged(self) -> list[Judged]:
        """Return the goals with what the figures say."""
        return judge(self.figures)

    @property
    def failed(self) -> bool:
        """Return whether a stage failed, be it because a figure is wrong; a goal that is missed is no failure."""
        return any(done.error for done in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return everything; the numbers of the goals stand among the figures too, under the goals' names."""
        values = dict(self.figures.values)
        values |= {one.goal.name: one.value for one in self.judged if one.value is not None}
        return {
            "mode": self.mode,
            "goals": [
                {
                    "name": one.goal.name,
                    "text": one.goal.text,
                    "value": one.value,
                    "goal": f"{one.goal.comparison} {one.goal.bound:g}",
                    "verdict": str(one.verdict),
                    "distance": one.distance_text,
                }
                for one in self.judged
            ],
            "figures": values,
            "curves": {name: [asdict(point) for point in points] for name, points in self.figures.curves.items()},
            "machine": asdict(self.machine),
            "stages": [asdict(done) for done in self.stages],
        }

    @classmethod
    def read(cls, path: Path) -> Report:
        """Return the run that `write` left in a file."""
        told = json.loads(path.read_text("utf-8"))
        figures = Figures()
        for name, value in told["figures"].items():
            # Goals are computed anew; two of them are figures themselves.
            if meaning(name) is not None:
                figures.put(name, value)
        for name, points in told["curves"].items():
            for point in points:
                figures.add(name, Point(**point))
        return cls(told["mode"], Machine(**told["machine"]), figures, [Done(**done) for done in told["stages"]])

    def write(self, path: Path) -> None:
        """Write the run as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", "utf-8")


def figure_text(value: float) -> str:
    """Return a figure as people read it: three digits that count, thousands apart."""
    if value >= 1000 or value == int(value):  # noqa: PLR2004 - from here on no decimals
        return f"{value:,.0f}"
    return f"{value:.{2 if value >= 1 else 3}f}"


def show(report: Report, console: Console) -> None:
    """Print the figures, then the goals."""
    console.print(_figures_table(report))
    console.print(_goals_table(report))
    console.print(f"{report.machine.sentence}; load {report.machine.load_before:g} before, "
                  f"{report.machine.load_after:g} after", style="dim", highlight=False)  # fmt: skip
    missed = [one.goal.name for one in report.judged if one.verdict is Verdict.MISSED]
    if missed:
        console.print(f"goals missed: {', '.join(missed)}", style="bold red", highlight=False)
    for done in report.stages:
        if done.error:
            console.print(f"stage {done.name} failed: {done.error}", style="bold red", highlight=False, markup=False)
        if done.skipped:
            console.print(f"stage {done.name} skipped: {done.skipped}", style="yellow", highlight=False, markup=False)


def _figures_table(report: Report) -> Table:
    table = Table(title=f"figures ({report.mode} run, git {report.machine.git_commit})", title_justify="left")
    table.add_column("figure", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("what it is")
    for name, value in report.figures.values.items():
        table.add_row(name, figure_text(value), meaning(name))
    return table


def _goals_table(report: Report) -> Table:
    table = Table(title="goals", title_justify="left")
    table.add_column("goal")
    table.add_column("bound", justify="right", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in report.judged:
        bound = f"{one.goal.comparison} {one.goal.bound:g}"
        value = "" if one.value is None else figure_text(one.value)
        verdict = f"{one.verdict}, {one.distance_text}" if one.distance_text else str(one.verdict)
        table.add_row(one.goal.text, bound, value, verdict, style=_COLOURS[one.verdict])
    return table
