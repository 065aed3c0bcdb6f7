"""The same with ten times the accounts and a journal of years."""

from __future__ import annotations

from dataclasses import replace

from loadtests.bench.pairs import in_turns
from loadtests.bench.stages import Bench
from loadtests.bench.traffic import MANY, Traffic, confirmed, warm
from loadtests.generator.load import Load
from loadtests.installation import Installation


class GrowthStage:
    """An installation of its own, with as many accounts and entries as the scale wants, in turns with the small one."""

    name = "growth"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `growth_redeem_256_per_s` and `growth_to_small_in_turns`; a short run has no growth."""
        scale = bench.scale
        if not scale.grown_accounts:
            bench.say("no growth in a short run")
            return
        bench.stop_serving()
        with Installation(bench.folder / "grown") as grown:
            grown.start_engines()
            bench.say(f"opening {scale.grown_accounts:,} accounts with {scale.grown_entries:,} entries")
            grown.populate(scale.grown_accounts, MANY, journal_rows=scale.grown_entries)
            grown.start_server()
            bench.say(f"all accounts asked for once: {warm(grown).answered_per_s:,.0f} a second")
            self._traffic.warm(bench)
            load = Load(MANY, scale.measuring_s, warm_up_s=scale.warm_up_s)
            # Filling ends with a checkpoint, and PostgreSQL logs each page whole that is changed for the first time
            # after one. The small case has done so within a second; here it takes a few times as many redeems as pages.
            confirmed(grown, replace(load, seconds=scale.first_touches_s))
            measured = in_turns(
                scale.repeats,
                lambda: confirmed(grown, load).approved_per_s,
                lambda: self._traffic.run(bench, load).approved_per_s,
            )
        bench.figures.put(f"growth_redeem_{MANY}_per_s", measured.case)
        bench.figures.put("growth_to_small_in_turns", measured.ratio)
        bench.say(f"{measured.case:,.0f} a second, {measured.other:,.0f} with {scale.accounts:,} accounts")
