import json
import os
import subprocess
import sys
from pathlib import Path

from tests.rigs.plain_journey import plain_journey

CHECKOUT = Path(__file__).parents[2]
BARE = {name: value for name, value in os.environ.items() if not name.startswith("TILLWIRE_")}


def replay(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", "replay", *words],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**BARE, "PYTHONPATH": str(CHECKOUT)},
        timeout=100,
        check=False,
    )


def test_a_part_of_the_year_comes_out_to_the_point(own_folder: Path) -> None:
    result = own_folder / "result.json"
    done = replay("--weeks", "1-3", "--workers", "2", "--folder", str(own_folder / "replay"), "--json", str(result))
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    expected = plain_journey(range(1, 4))

    assert found["baskets"] == expected.baskets
    assert (found["earned"], found["spent"]) == (expected.earned, expected.spent)
    assert found["outstanding"] == expected.earned - expected.spent == sum(expected.households.values())
    assert {int(household): points for household, points in found["households"].items()} == expected.households
    assert min(expected.spent, expected.earned) > 0, "the part is too small to prove anything"

    assert found["wrong_answers"] == 0
    verified = found["verify"]
    assert verified["clean"] is True
    assert verified["accounts"] == verified["hot_accounts"] == len(expected.households)
    assert verified["balance"] == found["outstanding"]
    # Every basket asks for the balance; those that are worth something also sell, and each sale is an entry.
    assert found["requests"] == expected.baskets + verified["entries"]
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["requests_per_s"] > 0
    assert "points outstanding" in done.stdout


def test_weeks_that_are_not_in_the_data_are_told(own_folder: Path) -> None:
    done = replay("--weeks", "60-61", "--folder", str(own_folder / "replay"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("tillwire: there are no baskets in the weeks 60-61")
    assert not (own_folder / "replay").exists()


def test_a_folder_with_other_files_is_not_emptied(own_folder: Path) -> None:
    precious = own_folder / "precious"
    precious.write_text("kept")
    done = replay("--weeks", "1", "--folder", str(own_folder))
    assert done.returncode == 1
    assert "holds files that are not a replay's" in done.stderr
    assert precious.read_text() == "kept"
