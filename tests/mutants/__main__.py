"""Plants one bug after the other in a copy of the tree and looks which instrument finds it.

    python -m tests.mutants [NAME...] [--instrument simulator|suite|campaign] [--all]

First the tree without a bug must pass the same instruments, or "found" would mean nothing. Then every mutant goes from
the cheapest instrument to the dearest until one finds it; with --all through every instrument. Prints a table, and one
JSON object as its last line. Exits with 1 when a mutant survives, or is missed by the simulator although its file says
that the simulator finds it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.mutants.catalogue import CHECKOUT, INSTRUMENTS, BadPatch, Mutant, apply, catalogue, copy_tree
from tests.mutants.instruments import (
    BrokenInstrument,
    Campaign,
    Finding,
    Instrument,
    Simulator,
    Suite,
)

_say = Console(stderr=True, width=150)


@dataclass
class Row:
    """What became of one mutant."""

    mutant: Mutant
    findings: list[Finding] = field(default_factory=list)
    trouble: str = ""

    @property
    def catcher(self) -> Finding | None:
        """Return the finding of the cheapest instrument that found it."""
        return next((finding for finding in self.findings if finding.caught), None)

    @property
    def failures(self) -> list[str]:
        """Return what is not as it should be, in words."""
        if self.trouble:
            return [self.trouble]
        if not self.findings:
            return ["no instrument here can show it"]
        if self.catcher is None:
            return ["survived"]
        missed = [f.instrument for f in self.findings if not f.caught and f.instrument in self.mutant.found_by]
        return ["missed by the simulator"] if "simulator" in missed else []


def instruments_of(options: argparse.Namespace) -> list[Instrument]:
    """Return the instruments to use, cheapest first; one that this checkout does not have is left out."""
    made: list[Instrument] = [
        Simulator(options.first, options.minutes, options.control_minutes, options.simulator_jobs),
        Suite(named_minutes=5, folders_minutes=20, wide=not options.named_tests_only),
        Campaign(options.first, options.rounds),
    ]
    wanted = options.instrument or list(INSTRUMENTS)
    missing = {name for name in ("simulator", "campaign") if not (CHECKOUT / f"tests/{name}/__main__.py").exists()}
    for name in missing & set(wanted):
        _say.print(f"there is no tests/{name} here, so it finds nothing", style="yellow")
    return [one for one in made if one.name in wanted and one.name not in missing]


def check(mutant: Mutant, instruments: Sequence[Instrument], unmutated: Path, everything: bool) -> Row:
    """Plant one bug in a copy of the tree and look for it."""
    row = Row(mutant)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f"{mutant.name}-", dir=unmutated.parent, ignore_cleanup_errors=True
        ) as place:
            Path(place).chmod(0o711)
            tree = copy_tree(unmutated, Path(place) / "tree")
            apply(mutant, tree)
            for instrument in instruments:
                if instrument.name == "simulator" and "simulator" not in mutant.found_by:
                    continue
                row.findings.append(instrument.look(tree, mutant))
                if row.findings[-1].caught and not everything:
                    break
    except (BadPatch, BrokenInstrument) as trouble:
        row.trouble = str(trouble)
    caught = row.catcher
    _say.print(
        f"{mutant.name:<34}"
        + (f"{caught.instrument} after {caught.seconds:g} s: {escape(caught.words)}" if caught else "")
        + ("; " if caught and row.failures else "")
        + escape(", ".join(row.failures)),
        style="red" if row.failures else None,
        highlight=False,
    )
    return row


def control(mutants: Sequence[Mutant], instruments: Sequence[Instrument], tree: Path) -> list[Finding]:
    """Look at the tree without a bug; all findings must be that there is none."""
    findings = []
    for instrument in instruments:
        concerned = [mutant for mutant in mutants if instrument.name != "simulator" or "simulator" in mutant.found_by]
        if concerned:
            findings.append(instrument.control(tree, concerned))
            say = "found something" if findings[-1].caught else "finds nothing"
            _say.print(f"without a mutant the {instrument.name} {say} in {findings[-1].seconds:g} s", highlight=False)
    return findings


def show(rows: Sequence[Row], controls: Sequence[Finding]) -> None:
    """Print the table."""
    table = Table("mutant", "breaks", "like", "caught by", "what it said", "after s", title="planted bugs")
    for finding in controls:
        words = finding.words if finding.caught else "as it must be"
        table.add_row(
            "(none)", "", "", finding.instrument if finding.caught else "", escape(words), f"{finding.seconds:g}"
        )
    for row in rows:
        caught = row.catcher
        words = "; ".join([*row.failures, caught.words if caught else ""]).strip("; ")
        seconds = sum(f.seconds for f in row.findings[: row.findings.index(caught) + 1]) if caught else 0
        table.add_row(
            row.mutant.name, row.mutant.breaks, escape(row.mutant.like.split(" (")[0]),
            caught.instrument if caught else "", escape(words), f"{seconds:g}",
            style="red" if row.failures else None,
        )  # fmt: skip
    _say.print(table)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Plant bugs and look who finds them.")
    parser.add_argument("names", nargs="*", help="mutants; all without")
    parser.add_argument("--instrument", action="append", choices=INSTRUMENTS, help="use this one; may be repeated")
    parser.add_argument("--all", action="store_true", help="go through every instrument, also after one found it")
    parser.add_argument("--minutes", type=float, default=10, help="how long the simulator may look for one mutant")
    parser.add_argument("--control-minutes", type=float, default=2, help="how long it looks at the tree without one")
    parser.add_argument("--named-tests-only", action="store_true", help="of the suite only what a mutant's file names")
    parser.add_argument("--first", type=int, default=1, help="seed of the first scenario and of the campaign")
    parser.add_argument("--rounds", type=int, default=20, help="how many rounds of the campaign one mutant may survive")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once")
    parser.add_argument("--simulator-jobs", type=int, default=os.cpu_count() or 1, help="scenarios at once")
    options = parser.parse_args()
    known = {mutant.name: mutant for mutant in catalogue()}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no mutant is called {', '.join(unknown)}")
    instruments = instruments_of(options)
    mutants = [known[name] for name in options.names or known]
    if not options.names and [one.name for one in instruments] == ["simulator"]:
        mutants = [mutant for mutant in mutants if "simulator" in mutant.found_by]
    with tempfile.TemporaryDirectory(prefix="tillwire-mutants-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        # All copies are made from this one: whoever edits the checkout meanwhile is left in peace.
        unmutated = copy_tree(CHECKOUT, folder / "unmutated")
        try:
            controls = control(mutants, instruments, unmutated)
        except BrokenInstrument as broken:
            _say.print(escape(str(broken)), style="red")
            return 2
        rows = []
        # What the simulator finds in a mutant is tried without it, scenario by scenario, so it may go on.
        if not any(finding.caught and finding.instrument != "simulator" for finding in controls):
            with ThreadPoolExecutor(options.jobs) as pool:
                rows = list(pool.map(lambda mutant: check(mutant, instruments, unmutated, options.all), mutants))
    show(rows, controls)
    failed = [row.mutant.name for row in rows if row.failures]
    found = {
        "mutants": len(mutants),
        "caught": sum(row.catcher is not None for row in rows),
        "failed": failed,
        "control": [asdict(finding) for finding in controls],
        "rows": [
            {
                "mutant": row.mutant.name,
                "breaks": row.mutant.breaks,
                "like": row.mutant.like,
                "failures": row.failures,
                "findings": [asdict(finding) for finding in row.findings],
            }
            for row in rows
        ],
    }
    print(json.dumps(found))  # noqa: T201
    return 1 if failed or any(finding.caught for finding in controls) else 0


if __name__ == "__main__":
    sys.exit(main())
