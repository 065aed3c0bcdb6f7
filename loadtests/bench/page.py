"""The part of docs/performance.md that a run writes: figures and goals, with date and machine, between two markers."""

from __future__ import annotations

import shutil
from pathlib import Path

from loadtests.bench.figures import meaning
from loadtests.bench.report import Report, figure_text

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PICTURE = "bench.png"


def write_page(report: Report, page: Path, picture: Path) -> None:
    """Put the run into the page and its picture beside the page. Raises ValueError for a page without the markers."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} ... {END}")
    page.write_text(f"{before}{BEGIN}\n{section(report)}{END}{after}", "utf-8")
    shutil.copyfile(picture, page.parent / PICTURE)


def section(report: Report) -> str:
    """Return what stands between the markers."""
    machine = report.machine
    made = (
        f"A {report.mode} run on {machine.date[:16].replace('T', ' ')} UTC, git `{machine.git_commit}`: "
        f"{machine.sentence}. Load of the machine {machine.load_before:g} before, {machine.load_after:g} after."
    )
    lines = [
        "<!-- Written by `make bench BENCH_ARGS=--write-docs`; changes by hand are lost. -->",
        "",
        made,
        "",
        f"![throughput and latency]({PICTURE})",
        "",
        "| goal | bound | figure | |",
        "| --- | --- | --- | --- |",
    ]
    for one in report.judged:
        value = "" if one.value is None else figure_text(one.value)
        verdict = f"**{one.verdict}**" + (f", {one.distance_text}" if one.distance_text else "")
        lines.append(f"| {one.goal.text} | {one.goal.comparison} {one.goal.bound:g} | {value} | {verdict} |")
    lines += ["", "| figure | | what it is |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {figure_text(value)} | {meaning(name)} |" for name, value in report.figures.values.items()]
    lines += [f"\nThe stage `{done.name}` failed: {done.error}." for done in report.stages if done.error]
    lines += [f"\nThe stage `{done.name}` was skipped: {done.skipped}." for done in report.stages if done.skipped]
    return "\n".join(lines) + "\n"
