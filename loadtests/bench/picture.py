"""The picture of a run: throughput and latency over registers, latency over the offered rate, peers as lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from loadtests.bench.figures import Point
from loadtests.bench.report import Report

_TILLWIRE, _PGBENCH, _HTTP, _SCRIPT = "#1f5fa8", "#b5521b", "#5b8c3a", "#8a8a8a"
_QUANTILES: tuple[tuple[str, str, Callable[[Point], float | None]], ...] = (
    ("p50", ":", lambda point: point.p50_ms),
    ("p99", "-", lambda point: point.p99_ms),
    ("p99.9", "--", lambda point: point.p999_ms),
)


def draw(report: Report, path: Path) -> None:
    """Write the picture as PNG."""
    figure = Figure(figsize=(13, 4.4), dpi=110, layout="constrained")
    # Drawn in memory: this also runs where there is no display.
    FigureCanvasAgg(figure)
    over_throughput, over_latency, over_offered = figure.subplots(1, 3)
    _throughput(over_throughput, report)
    _latency(over_latency, report)
    _offered(over_offered, report)
    machine = report.machine
    figure.suptitle(
        f"Tillwire {machine.git_commit}, {report.mode} run, {machine.date[:10]}, {machine.cores} cores", fontsize=10
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _throughput(axes: Any, report: Report) -> None:
    curves, values = report.figures.curves, report.figures.values
    for name, label, colour in (
        ("registers", "Tillwire, registers", _TILLWIRE),
        ("pgbench", "pgbench, clients", _PGBENCH),
        ("http_service", "HTTP service, connections", _HTTP),
    ):
        if points := curves.get(name):
            axes.plot([p.at for p in points], [p.per_s for p in points], marker="o", ms=4, color=colour, label=label)
    if (script := values.get("ceiling_script_per_s")) is not None:
        axes.axhline(script, color=_SCRIPT, ls="--", lw=1, label="Redis script alone")
    if (best := values.get("pgbench_best_per_s")) is not None:
        axes.axhline(best, color=_PGBENCH, ls=":", lw=1, label="pgbench's best")
    _dress(axes, "durable redeems a second, closed loop", "callers with one request under way each")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")


def _latency(axes: Any, report: Report) -> None:
    _quantiles(axes, report.figures.curves.get("registers", ()), "Tillwire", _TILLWIRE)
    _quantiles(axes, report.figures.curves.get("pgbench", ()), "pgbench", _PGBENCH)
    _quantiles(axes, report.figures.curves.get("http_service", ()), "HTTP service", _HTTP)
    _dress(axes, "latency in ms, closed loop", "callers with one request under way each")
    _logarithmic_ms(axes)


def _offered(axes: Any, report: Report) -> None:
    _quantiles(axes, report.figures.curves.get("offered", ()), "Tillwire", _TILLWIRE)
    _quantiles(axes, report.figures.curves.get("pgbench_offered", ()), "pgbench", _PGBENCH)
    _dress(axes, "latency in ms from the intended time, open loop", "offered a second", logarithmic=False)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")
    _logarithmic_ms(axes)


def _quantiles(axes: Any, points: Sequence[Point], label: str, colour: str) -> None:
    for name, style, of in _QUANTILES:
        known = [(point.at, value) for point in points if (value := of(point)) is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True), ls=style, marker="o", ms=3, lw=1.3, color=colour, label=f"{label} {name}"
            )


def _dress(axes: Any, title: str, below: str, *, logarithmic: bool = True) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(below, fontsize=9)
    axes.grid(visible=True, which="major", color="#dddddd", lw=0.7)
    axes.tick_params(labelsize=8)
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, framealpha=0.9)


def _logarithmic_ms(axes: Any) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
