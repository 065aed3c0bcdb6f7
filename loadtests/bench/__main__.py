"""Measure Tillwire beside its peers, on engines that this run starts itself with production durability.

    python -m loadtests.bench [--quick] [--only STAGE,...] [--write-docs] [--again build/bench.json]

Exits with 1 when a stage failed or a figure is wrong; a goal that is missed is said and is no failure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from loadtests.bench import machine
from loadtests.bench.line_up import STAGES, chosen
from loadtests.bench.page import write_page
from loadtests.bench.picture import draw
from loadtests.bench.report import Report, show
from loadtests.bench.stages import FULL, QUICK, Bench, Run
from loadtests.installation import Installation

_CHECKOUT = Path(__file__).parents[2]
_PAGE = _CHECKOUT / "docs" / "performance.md"
# /tmp is memory on many systems, where an fsync costs nothing; /var/tmp is a disk.
_ON_DISK = Path("/var/tmp")  # noqa: S108 - a folder of our own is made in it


class _Progress:
    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        self._console.print(f"{time.perf_counter() - self._began:7.1f} s  {text}", markup=False, soft_wrap=True)


def measure(options: argparse.Namespace) -> Report:
    """Run the stages on a fresh installation, which is stopped and deleted afterwards."""
    progress = _Progress()
    scale = QUICK if options.quick else FULL
    within = options.folder or (_ON_DISK if _ON_DISK.is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="tillwire-bench-", dir=within, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Engines that may not run as root run as somebody else, who must get at their own folders.
        folder.chmod(0o711)
        installation = Installation(folder / "installation")
        try:
            progress.say("starting PostgreSQL and Valkey")
            installation.start_engines()
            here = machine.look(installation.postgres_url, installation.redis_url, folder)
            run = Run(Bench(installation, scale, folder, progress.say))
            run.run(chosen(options.only))
        finally:
            installation.stop()
        here.load_after = machine.load()
        return Report(scale.name, here, run.bench.figures, run.done)


def main() -> None:
    """Measure, report, and leave with what became of it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description="Measure Tillwire beside its peers.")
    parser.add_argument("--quick", action="store_true", help="everything but growth, in under two minutes")
    parser.add_argument("--only", default="", metavar="STAGE,...", help=", ".join(stage.name for stage in STAGES))
    parser.add_argument("--output", type=Path, default=_CHECKOUT / "build", help="folder of bench.json and bench.png")
    parser.add_argument("--folder", type=Path, help="where the engines' data lie meanwhile; should be a disk")
    parser.add_argument("--write-docs", action="store_true", help="put the run into docs/performance.md")
    parser.add_argument("--again", type=Path, metavar="FILE", help="measure nothing, show an earlier run's bench.json")
    options = parser.parse_args()
    try:
        chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    report = Report.read(options.again) if options.again else measure(options)
    output: Path = options.output
    report.write(output / "bench.json")
    draw(report, output / "bench.png")
    # A pipe has no width of its own, and broken lines are hard to read.
    console = Console(width=None if sys.stdout.isatty() else 160)
    show(report, console)
    console.print(f"{output / 'bench.json'} and bench.png written", highlight=False)
    if options.write_docs:
        write_page(report, _PAGE, output / "bench.png")
        console.print(f"{_PAGE} written", highlight=False)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
