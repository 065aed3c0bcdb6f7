"""The stages that look inside: each runs a measurement of tests/measurements as a process and takes its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from loadtests.bench.stages import Bench, Wrong

_CHECKOUT = Path(__file__).parents[2]
_PREFIX = "TILLWIRE_"
_END_S = 600.0


class CeilingsStage:
    """The Redis script alone, and the journal's insert alone."""

    name = "ceilings"

    def run(self, bench: Bench) -> None:
        """Put `ceiling_script_per_s` and `ceiling_journal_per_s`."""
        found = _measured(bench, "ceilings", "--decisions", str(bench.scale.decisions))
        bench.figures.put("ceiling_script_per_s", found["script_per_s"])
        bench.figures.put("ceiling_journal_per_s", found["journal_per_s"])
        bench.say(
            f"script alone {found['script_per_s']:,.0f} decisions a second, "
            f"insert alone {found['journal_per_s']:,.0f} entries a second"
        )


class AllocationsStage:
    """What the hot path allocates."""

    name = "allocations"

    def run(self, bench: Bench) -> None:
        """Put `allocations_per_redeem`, unless this machine is none that they can be counted on."""
        folder = str(bench.installation.folder)
        redeems = str(bench.scale.decisions // 10)
        found = _measured(bench, "allocations", "--folder", folder, "--redeems", redeems)
        if reason := found.get("not_countable"):
            bench.say(reason)
            return
        bench.figures.put("allocations_per_redeem", found["allocations_per_redeem"])
        bench.say(f"{found['allocations_per_redeem']:g} allocations for each redeem")


def _measured(bench: Bench, name: str, *arguments: str) -> dict[str, Any]:
    """Run a measurement on the accounts, without a server; return what it found. Raises Wrong when it failed."""
    bench.stop_serving()
    installation = bench.populate()
    kept = {name: value for name, value in os.environ.items() if not name.startswith((_PREFIX, "PYTHON"))}
    environment = {
        **kept,
        "PYTHONPATH": str(_CHECKOUT),
        f"{_PREFIX}POSTGRES_URL": installation.postgres_url,
        f"{_PREFIX}REDIS_URL": installation.redis_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", f"tests.measurements.{name}", "--json", *arguments],
        capture_output=True, text=True, cwd=_CHECKOUT, env=environment, timeout=_END_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Wrong(done.stderr.strip()[-1000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
