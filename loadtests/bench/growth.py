"""The same with ten times the accounts and a journal of years."""

from __future__ import annotations

from loadtests.bench.stages import Bench
from loadtests.bench.traffic import MANY, confirmed, warm
from loadtests.generator.load import Load
from loadtests.installation import Installation

_FIRST_TOUCHES_S = 30.0
"""Filling ends with a checkpoint, and PostgreSQL logs each page whole that is changed for the first time after one.

The small case has done so within a second; here it takes as many redeems as there are pages, a few times.
"""


class GrowthStage:
    """An installation of its own, with as many accounts and entries as the scale wants."""

    name = "growth"

    def run(self, bench: Bench) -> None:
        """Put `growth_redeem_256_per_s`; a short run has no growth."""
        scale = bench.scale
        if not scale.grown_accounts:
            bench.say("no growth in a short run")
            return
        bench.stop_serving()
        with Installation(bench.folder / "grown") as installation:
            installation.start_engines()
            bench.say(f"opening {scale.grown_accounts:,} accounts with {scale.grown_entries:,} entries")
            installation.populate(scale.grown_accounts, MANY, journal_rows=scale.grown_entries)
            installation.start_server()
            bench.say(f"all accounts asked for once: {warm(installation).answered_per_s:,.0f} a second")
            outcome = confirmed(installation, Load(MANY, scale.measuring_s, warm_up_s=_FIRST_TOUCHES_S))
        bench.figures.put(f"growth_redeem_{MANY}_per_s", outcome.approved_per_s)
        bench.say(f"{outcome.approved_per_s:,.0f} a second")
