"""Play one load profile against an installation of its own: engines, a population and a server, all gone afterwards.

    python -m loadtests.play saturday_noon [--accounts N] [--terminals N] [--relays N] [--web] [options of locust]

To put load on an installation that is there already, run locust itself; loadtests/README.md says how.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.installation import CHECKOUT, Installation

PROFILES = CHECKOUT / "loadtests" / "profiles"
REPORT = Path("build") / "locust.html"
#: What the operators, dashboards and apps of the profiles do, and no more.
PERMISSIONS = (
    "accounts:read", "accounts:write", "cards:read", "figures:read", "member-tokens:write", "members:write",
    "operations:read",
)  # fmt: skip
_OURS = ("TILLWIRE_", "LOCUST_", "PYTHON")
#: How a shell shows that Ctrl-C ended a command.
_INTERRUPTED = 130


def names() -> list[str]:
    """Return the names of the profiles."""
    return sorted(file.stem for file in PROFILES.glob("*.conf"))


def command(profile: str, options: Sequence[str]) -> list[str]:
    """Return how locust is started with a profile; the working folder must be the checkout."""
    configuration = (PROFILES / f"{profile}.conf").relative_to(CHECKOUT)
    return [sys.executable, "-m", "locust", "--config", str(configuration), *options]


def environment(installation: Installation, admin_token: str = "") -> dict[str, str]:
    """Return the environment in which locust finds an installation, whatever a developer's shell has set.

    Without a token there are no operators beside the registers.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {
        **kept,
        "PYTHONPATH": str(CHECKOUT),
        "TILLWIRE_POPULATION": str(installation.folder / "population.json"),
        "TILLWIRE_ADMIN_URL": f"http://{installation.host}:{installation.admin_port}",
        "TILLWIRE_ADMIN_TOKEN": admin_token,
        "TILLWIRE_MQTT_URL": installation.mqtt_url or "",
    }


def play(profile: str, folder: Path, accounts: int, terminals: int, relays: int, options: Sequence[str]) -> int:
    """Start everything, run locust with further options to its end, stop everything; return locust's exit code."""
    with Installation(folder) as installation:
        _say("starting the engines ...")
        installation.start_engines()
        _say(f"making {accounts} accounts, {terminals} terminals and {relays} relays ...")
        installation.populate(accounts, terminals, relays=relays)
        installation.start_server()
        found_by = environment(installation, installation.add_token("load test", PERMISSIONS))
        _say(f"playing {profile} ...")
        locust = subprocess.Popen(command(profile, options), cwd=CHECKOUT, env=found_by)
        # Whoever ends this process ends locust, and then everything in order.
        signal.signal(signal.SIGTERM, lambda _number, _frame: locust.terminate())
        try:
            return locust.wait()
        except KeyboardInterrupt:
            # Ctrl-C reached locust as well, which now writes its report.
            locust.wait()
            return _INTERRUPTED
        finally:
            locust.kill()


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Parse the command line; what is not understood here is locust's."""
    parser = argparse.ArgumentParser(description="Play a load profile against an installation of its own.")
    parser.add_argument("profile", choices=names())
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--terminals", type=int, default=1_100)
    parser.add_argument("--relays", type=int, default=50)
    parser.add_argument("--web", action="store_true", help="the web UI on loopback instead of a run and a report")
    ours, locusts = parser.parse_known_args()
    shown = ("--web-host", "127.0.0.1") if ours.web else ("--headless", "--html", str(REPORT))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tillwire-locust-", ignore_cleanup_errors=True) as folder:
        sys.exit(play(ours.profile, Path(folder), ours.accounts, ours.terminals, ours.relays, [*shown, *locusts]))


if __name__ == "__main__":
    main()
