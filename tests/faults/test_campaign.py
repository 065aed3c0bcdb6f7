"""A few rounds of the campaign on real processes; `make faults` runs many.

TILLWIRE_FAULT_SEED repeats them.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.judge.verdict import BREACHES

CHECKOUT = Path(__file__).parents[2]
ROUNDS = 3


@pytest.mark.timeout(600)  # The rounds take half a minute; on a slow machine everything is waited for.
def test_a_campaign_of_random_faults_breaks_no_promise() -> None:
    seed = os.environ.get("TILLWIRE_FAULT_SEED") or str(random.SystemRandom().randrange(2**32))
    print(f"TILLWIRE_FAULT_SEED={seed}")  # noqa: T201 - shown with a failure, to repeat it
    command = [sys.executable, "-m", "tests.campaign", "--seed", seed, "--rounds", str(ROUNDS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=CHECKOUT)
    report = json.loads(done.stdout.splitlines()[-1])
    assert {breach: report[breach] for breach in BREACHES} == dict.fromkeys(BREACHES, 0)
    assert report["bugs"] == 0
    assert done.returncode == 0
    assert report["rounds"] == ROUNDS
    assert report["faults"] >= ROUNDS
    assert report["approved"] > 100 * ROUNDS
