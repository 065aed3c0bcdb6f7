"""How long a chain takes to move in: members, cards and balances through the command, into engines of its own.

    python -m tests.measurements.moving_in [--members 500000]

Every member has personal data, a card and a lot. Prints what each file took and one JSON object as its last line; exits
with 1 when totals or books do not agree.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtests.processor_time import processor_s
from server.cli import main as _command
from server.engines.postgres import EmbeddedPostgres
from server.secrets import KEY_BYTES, NAMES, VARIABLE_PREFIX
from server.settings_load import PREFIX
from tests.rigs.moving_rig import ean13

CHECKOUT = Path(__file__).parents[2]
#: So that sums cannot agree by chance: every member has another number of points.
_STEP, _MOST = 7_919, 10_000_000


def files(folder: Path, members: int) -> dict[str, Path]:
    """Write the three files."""
    parts: dict[str, tuple[tuple[str, ...], Iterator[tuple[object, ...]]]] = {
        "members": (
            ("id", "first name", "last name", "phone", "email", "birthday", "consents"),
            ((f"C{i}", f"Given{i % 5_000}", f"Family{i % 40_000}", f"+49151{i:08}", f"m{i}@example.org",
              f"{1940 + i % 60}-{i % 12 + 1:02}-{i % 28 + 1:02}", "marketing -sms") for i in range(members)),
        ),
        "cards": (("id", "card number", "status"), ((f"C{i}", ean13(i), "active") for i in range(members))),
        "balances": (
            ("id", "points", "expires"),
            ((f"C{i}", points(i), f"{2090 + i % 9}-{i % 12 + 1:02}-28") for i in range(members)),
        ),
    }  # fmt: skip
    found = {}
    for kind, (header, rows) in parts.items():
        found[kind] = folder / f"{kind}.csv"
        with found[kind].open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows(rows)
    return found


def points(member: int) -> str:
    minor = member * _STEP % _MOST + 1
    return f"{minor // 100}.{minor % 100:02}"


def run(*words: str, url: str, keys: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run the command as an operator does; return its JSON."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    variables = {
        "PYTHONPATH": str(CHECKOUT), PREFIX + "POSTGRES_URL": url, PREFIX + "DATA_DIR": str(folder),
        **{VARIABLE_PREFIX + name.upper(): value for name, value in keys.items()},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", _command.__module__, *words],
        env={**kept, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not done.stdout.startswith("{"):
        raise RuntimeError(done.stderr)
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def measure(folder: Path, members: int, *, again: bool) -> dict[str, Any]:
    """Import, and again if asked for; return seconds, rows a second, the machine's load, and what does not agree."""
    postgres = EmbeddedPostgres(folder / "postgresql")
    postgres.start()
    keys = {name: os.urandom(KEY_BYTES).hex() for name in NAMES}
    found: dict[str, Any] = {"members": members, "cores": os.cpu_count(), "load_before": load(), "faults": []}
    try:
        common = {"url": postgres.url, "keys": keys, "folder": folder}
        run("migrate", "--json", **common)
        for kind, file in files(folder, members).items():
            for attempt in ("first", "again") if again else ("first",):
                began_s, began_processor_s = time.monotonic(), processor_s(os.getpid())
                report = run("import", kind, str(file), "--json", **common)
                took_s = time.monotonic() - began_s
                name = kind if attempt == "first" else f"{kind}_again"
                found[name] = {
                    "s": round(took_s, 1),
                    "rows_per_s": round(members / took_s),
                    # What it would take on two cores that have nothing else to do is half of this.
                    "processor_s": round(processor_s(os.getpid()) - began_processor_s, 1),
                    "load": load(),
                }
                print(f"{name}: {members:,} rows in {took_s:.1f} s, {members / took_s:,.0f} a second", flush=True)  # noqa: T201
                taken = report["imported" if attempt == "first" else "already"]
                if not report["agrees"] or taken != members:
                    found["faults"].append(f"{name}: {taken} of {members}, agrees {report['agrees']}")
        found["total_s"] = round(sum(found[kind]["s"] for kind in ("members", "cards", "balances")), 1)
        verified = run("verify", "--skip-redis", "--json", **common)
        expected = sum(i * _STEP % _MOST + 1 for i in range(members))
        if not verified["clean"] or verified["balance"] != expected:
            found["faults"].append(f"verify: {verified}, expected {expected}")
    finally:
        postgres.stop()
    return found


def load() -> float:
    """Return the load of the last minute."""
    return round(os.getloadavg()[0], 2)


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=500_000)
    parser.add_argument("--again", action="store_true", help="import every file a second time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tillwire-moving-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        found = measure(folder, options.members, again=options.again)
    print(json.dumps(found))  # noqa: T201
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
