"""Aim the lean generator at an installation that `tillwire add population` has filled.

    python -m loadtests.generator POPULATION.json --registers 256 --seconds 10 [--open RATE] [--mix | --hot]

Prints a table, or with --json one JSON object; with --postgres the effects are looked up in the journal. Exits with 1
when the server cannot be reached, or when registers and journal do not agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.generator.confirm import Mismatch, confirm
from loadtests.generator.fleet import Trouble
from loadtests.generator.load import Load, Work
from loadtests.generator.outcome import Outcome
from loadtests.generator.process import run
from loadtests.generator.target import Target
from loadtests.population import Population


def main() -> None:
    """Run one load and show what came of it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.generator", description="Load from many registers.")
    parser.add_argument("population", type=Path, help="what `tillwire add population --output` wrote")
    parser.add_argument("--registers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=1.0, metavar="SECONDS", help="before anything is measured")
    parser.add_argument("--open", type=float, metavar="RATE", help="open loop: so many requests a second are due")
    parser.add_argument("--at-once", type=int, default=0, help="requests that one register may have under way")
    parser.add_argument("--deadline-ms", type=int, default=5_000, help="after it a request is worth nothing")
    parser.add_argument("--processes", type=int, default=1, help="generators, when one is not enough")
    parser.add_argument("--seed", type=int, default=1)
    work = parser.add_mutually_exclusive_group()
    work.add_argument("--mix", dest="work", action="store_const", const=Work.MIX, help="balances, sales, holds ...")
    work.add_argument("--hot", dest="work", action="store_const", const=Work.HOT, help="all registers, one card")
    work.add_argument("--sweep", dest="work", action="store_const", const=Work.SWEEP, help="one balance of each card")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM authority of the server's certificate")
    parser.add_argument("--postgres", metavar="URL", help="look up in the journal what the registers heard")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(work=Work.REDEEM)
    options = parser.parse_args()
    try:
        load = Load(
            options.registers, 0.0 if options.work is Work.SWEEP else options.seconds, options.work, options.open,
            0.0 if options.work is Work.SWEEP else options.warm_up, options.at_once,
            deadline_ms=options.deadline_ms, seed=options.seed,
        )  # fmt: skip
        target = Target(Population.read(options.population), options.tls_ca)
    except (ValueError, TypeError, OSError) as error:
        parser.error(str(error))
    try:
        outcome = run(target, load, processes=options.processes)
        if options.postgres:
            confirm(options.postgres, outcome)
    except (Trouble, Mismatch, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        print(json.dumps(told(outcome, load)))  # noqa: T201
    else:
        _show(told(outcome, load))


def told(outcome: Outcome, load: Load) -> dict[str, object]:
    """Return what a person wants to know of a run."""
    p50, p99, p999 = outcome.percentiles_ms(0.5, 0.99, 0.999)
    due = {"due": outcome.due, "given_up": outcome.given_up} if load.rate_per_s else {}
    return {
        "work": str(load.work), "registers": outcome.registers, "seconds": round(outcome.seconds, 3),
        "sign_on_s": round(outcome.sign_on_s, 3), **due, "approved": outcome.approved, "declined": outcome.declined,
        "errors": dict(outcome.errors), "answered_per_s": round(outcome.answered_per_s, 1),
        "approved_per_s": round(outcome.approved_per_s, 1),
        "goodput_per_s": round(outcome.goodput_per_s(load.deadline_ms), 1),
        "p50_ms": p50, "p99_ms": p99, "p999_ms": p999,
        "generator_us_per_request": round(outcome.cpu_us_per_request, 2),
        "effects": dict(outcome.effects), "doubtful": outcome.doubtful,
    }  # fmt: skip


def _show(figures: dict[str, object]) -> None:
    table = Table("figure", "", show_header=False)
    for name, value in figures.items():
        text = ", ".join(f"{n} {key}" for key, n in value.items()) or "none" if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), text)
    Console().print(table)


if __name__ == "__main__":
    main()
