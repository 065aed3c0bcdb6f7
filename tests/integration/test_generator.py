"""The lean generator against a small real installation: its sums must be right, its speed is nobody's business here."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from loadtests.certificate import make_certificate
from loadtests.generator.confirm import Mismatch, confirm
from loadtests.generator.fleet import Trouble
from loadtests.generator.load import Load, Work
from loadtests.generator.outcome import Outcome
from loadtests.generator.process import holding, run
from loadtests.generator.target import Target
from loadtests.installation import Installation

ACCOUNTS, TERMINALS = 120, 24
SECONDS = 0.5


@pytest.fixture(scope="module")
def installation(engines_folder: Path) -> Iterator[Installation]:
    with Installation(engines_folder / "generator") as installation:
        installation.start_engines()
        installation.populate(ACCOUNTS, TERMINALS, lots=2)
        yield installation


class Serving:
    """The installation's server, started anew only when other settings are wanted."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._settings: dict[str, object] | None = None

    def target(self, *, tls: bool = False, **settings: str) -> Target:
        wanted = {"tls": tls, **settings}
        if self._settings != wanted:
            self.installation.stop_server()
            self.installation.start_server(tls=tls, **settings)
            self._settings = wanted
        return Target(self.installation.population, self.installation.tls_ca if tls else None)

    def confirmed(self, outcome: Outcome) -> Counter[str]:
        return confirm(self.installation.postgres_url, outcome)


@pytest.fixture(scope="module")
def serving(installation: Installation) -> Serving:
    return Serving(installation)


def test_a_closed_loop_has_one_request_a_register_under_way(serving: Serving) -> None:
    processors = serving.installation.processors
    outcome = run(serving.target(), Load(TERMINALS, SECONDS), observe=processors)
    assert serving.confirmed(outcome) == outcome.effects
    # What was approved after the measured time stands in the journal too.
    assert 0 < outcome.effects["REDEEM"] - outcome.approved <= TERMINALS < outcome.approved
    assert (outcome.registers, outcome.declined, outcome.errors, outcome.doubtful) == (TERMINALS, 0, {}, 0)
    assert len(outcome.latencies_us) == outcome.approved
    # A register waits for one answer after the other: for all together as long as was measured, and for its first one
    # perhaps already before.
    assert sum(outcome.latencies_us) / 1e6 <= (outcome.seconds + max(outcome.latencies_us) / 1e6) * TERMINALS
    assert set(outcome.observed) >= {"server", "valkey", "postgresql"}


def test_an_open_loop_asks_what_its_schedule_says(serving: Serving) -> None:
    load = Load(TERMINALS, 1.0, rate_per_s=300.0)
    outcome = run(serving.target(), load)
    assert serving.confirmed(outcome) == outcome.effects
    # A Poisson process at 300 a second: five sigmas on either side.
    assert 213 < outcome.due < 387
    assert (outcome.effects["REDEEM"], outcome.given_up, outcome.declined) == (outcome.due, 0, 0)


def test_a_sweep_ends_by_itself_when_every_card_was_asked_for(serving: Serving) -> None:
    outcome = run(serving.target(), Load(8, 0.0, Work.SWEEP, at_once=4))
    assert (outcome.approved, outcome.effects) == (ACCOUNTS, {})
    outcome = run(serving.target(), Load(8, 0.0, Work.SPEND, at_once=4, rounds=2, cards=30))
    assert serving.confirmed(outcome) == {"REDEEM": 60}


def test_two_processes_share_registers_and_ids(serving: Serving) -> None:
    outcome = run(serving.target(), Load(TERMINALS, SECONDS), processes=2)
    assert serving.confirmed(outcome) == outcome.effects
    assert (outcome.registers, len(outcome.latencies_us)) == (TERMINALS, outcome.approved)


def test_a_mix_holds_captures_sells_and_reverses(serving: Serving) -> None:
    outcome = run(serving.target(), Load(TERMINALS, 1.0, Work.MIX))
    assert serving.confirmed(outcome) == outcome.effects
    assert set(outcome.effects) == {"SALE", "HOLD", "CAPTURE", "REVERSE"}
    assert outcome.effects["SALE"] > outcome.effects["HOLD"] >= outcome.effects["CAPTURE"] > 0
    assert outcome.approved + outcome.declined > sum(outcome.effects.values())
    # An account of this test's size may be at its limit of holds; nothing else is declined.
    assert outcome.declined < outcome.approved / 5


def test_a_mix_may_have_several_under_way_in_an_open_loop(serving: Serving) -> None:
    outcome = run(serving.target(), Load(4, 1.0, Work.MIX, rate_per_s=400.0, at_once=8))
    assert serving.confirmed(outcome) == outcome.effects
    assert set(outcome.effects) == {"SALE", "HOLD", "CAPTURE", "REVERSE"}


def test_a_hot_card_is_given_its_points_first(serving: Serving) -> None:
    outcome = run(serving.target(), Load(TERMINALS, SECONDS, Work.HOT))
    assert serving.confirmed(outcome) == outcome.effects
    assert (outcome.effects["EARN"], outcome.declined) == (1, 0)
    assert outcome.effects["REDEEM"] >= outcome.approved > 0


def test_what_the_registers_did_not_hear_is_a_mismatch_that_names_its_numbers(serving: Serving) -> None:
    outcome = run(serving.target(), Load(4, 0.0, Work.SPEND, cards=10))
    assert serving.confirmed(outcome) == {"REDEEM": 10}
    for heard, words in ((11, "11 REDEEM were approved, but 10 stand"), (9, "10 REDEEM stand .* 9 were approved")):
        falsified = replace(outcome, effects=Counter(REDEEM=heard))
        with pytest.raises(Mismatch, match=words):
            serving.confirmed(falsified)


def test_the_command_line_shows_and_tells(serving: Serving, tmp_path: Path) -> None:
    file = tmp_path / "population.json"
    file.write_text(json.dumps(asdict(serving.target().population)))

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "loadtests.generator", str(file), "--registers", "8", "--seconds", "0.2",
                   "--warm-up", "0", *words]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    told = json.loads(said("--json", "--open", "200", "--postgres", serving.installation.postgres_url).stdout)
    assert (told["registers"], told["given_up"], told["errors"]) == (8, 0, {})
    assert told["effects"]["REDEEM"] >= told["approved"] > 0
    shown = said("--mix").stdout
    assert "approved per s" in shown
    assert "generator us per request" in shown
    serving.installation.stop_server()
    serving._settings = None
    alone = said()
    assert (alone.returncode, alone.stdout) == (1, "")
    assert "could not sign on" in alone.stderr
    assert "Traceback" not in alone.stderr


def test_registers_speak_tls_and_check_the_certificate(serving: Serving, tmp_path: Path) -> None:
    target = serving.target(tls=True)
    outcome = run(target, Load(TERMINALS, SECONDS))
    assert serving.confirmed(outcome) == outcome.effects
    assert outcome.approved > TERMINALS
    other = run(target, Load(4, SECONDS, rate_per_s=400.0))
    assert serving.confirmed(other) == other.effects
    stranger = tmp_path / "certificate.pem"
    make_certificate(stranger, tmp_path / "certificate.key")
    with pytest.raises(Trouble, match=r"could not sign on.*CERTIFICATE_VERIFY_FAILED"):
        run(replace(target, tls_ca=stranger), Load(1, 0.1))


def test_overload_is_refused_and_what_is_approved_stands(serving: Serving) -> None:
    target = serving.target(queue_requests_max="8", batch_requests_max="4")
    load = Load(TERMINALS, 1.0, rate_per_s=20_000.0, deadline_ms=500)
    outcome = run(target, load)
    assert serving.confirmed(outcome) == outcome.effects
    assert outcome.errors["BUSY"] > outcome.approved > 0
    assert 0 < outcome.goodput_per_s(500.0) <= outcome.approved_per_s
    # In a closed loop a register that was refused waits, and goes on.
    outcome = run(target, Load(TERMINALS, SECONDS, at_once=8))
    assert serving.confirmed(outcome) == outcome.effects
    assert outcome.errors["BUSY"] > 0 < outcome.approved


def test_registers_come_back_after_the_server_was_killed(serving: Serving) -> None:
    with holding(serving.target(), TERMINALS * 2) as registers:
        first = registers.expect("ready")
        serving.installation.kill_server()
        serving.installation.start_server()
        second = registers.expect("ready")
    assert first["complete_s"] < second["first_contact_s"] <= second["complete_s"]
    assert second["attempts"] >= TERMINALS * 2
