"""Runs of pgbench: how many transactions, how fast, and what PostgreSQL's processes spent on them."""

from __future__ import annotations

import math
import os
import re
import subprocess
from array import array
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from loadtests.peers.database import PeerDatabase

_HERE = Path(__file__).parent
#: The function itself, for `peer_database`.
FUNCTION = (_HERE / "redeem.sql").read_text("utf-8")
#: Minor units that one transaction spends (transaction.pgbench).
POINTS = 100
_THREADS = 2
# Ids that grow with time lie side by side in their index, as those of the load generator do. Before 18 there are none.
_NEW_ID_MAJOR_MIN, _NEW_ID, _RANDOM_ID = 18, "uuidv7", "gen_random_uuid"
_END_S = 60.0


class PgbenchError(Exception):
    """pgbench could not do what was asked; the text is what it said."""


@dataclass(frozen=True, slots=True)
class PgbenchRun:
    """What one run brought; `latencies_us` are sorted, in a run at a rate counted from the schedule.

    `per_s` leaves out the time that connecting took.
    """

    transactions: int
    per_s: float
    connecting_s: float
    latencies_us: array[int]

    def percentile_ms(self, part: float) -> float:
        """Return the latency that so large a part of the transactions did not exceed. Raises IndexError without any."""
        return self.latencies_us[min(len(self.latencies_us) - 1, int(part * len(self.latencies_us)))] / 1000


class Pgbench:
    """pgbench on a peer's database; `folder` takes its script and logs."""

    def __init__(self, database: PeerDatabase, postgres_bin: Path, folder: Path) -> None:
        self._program = postgres_bin / "pgbench"
        self._folder = folder
        self._accounts = database.accounts
        parts = urlsplit(database.url)
        self._environment = {
            **os.environ,
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port or 5432),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": parts.path.lstrip("/"),
        }
        self._runs = 0
        folder.mkdir(parents=True, exist_ok=True)
        new_id = _NEW_ID if self._major() >= _NEW_ID_MAJOR_MIN else _RANDOM_ID
        text = (_HERE / "transaction.pgbench").read_text("utf-8").replace(":new_id", new_id)
        self._script = folder / "transaction.pgbench"
        self._script.write_text(text, "utf-8")

    def run(
        self, clients: int, *, seconds: float = 0.0, each: int = 0, rate_per_s: float = 0.0, sampled: float = 1.0
    ) -> PgbenchRun:
        """Run so many seconds, or so many transactions of each client. Raises PgbenchError.

        Seconds are whole ones, rounded up, and connecting is among them. With a rate, transactions are due at random
        times of that mean rate, and latency counts from there. `sampled` is the part whose latency is noted; at a rate
        it is that of all.
        """
        self._runs += 1
        prefix = f"run{self._runs}"
        command = [str(self._program), "--no-vacuum", "--protocol=prepared", f"--file={self._script}",
                   f"--client={clients}", f"--jobs={min(_THREADS, clients)}", f"--define=accounts={self._accounts}",
                   "--log", f"--log-prefix={self._folder / prefix}"]  # fmt: skip
        command.append(f"--transactions={each}" if each else f"--time={max(1, math.ceil(seconds))}")
        if rate_per_s:
            command.append(f"--rate={rate_per_s:.1f}")
        elif sampled < 1.0:
            command.append(f"--sampling-rate={sampled}")
        told = self._told(command, seconds + _END_S)
        transactions = int(_number(told, r"transactions actually processed: (\d+)"))
        latencies_us = self._latencies(prefix)
        if not transactions:
            # The time runs while the clients connect, and on a busy machine that may be all there is.
            return PgbenchRun(0, 0.0, 0.0, latencies_us)
        if failed := _number(told, r"number of failed transactions: (\d+)"):
            raise PgbenchError(f"{failed:.0f} transactions failed")
        connecting_s = _number(told, r"initial connection time = ([\d.]+) ms") / 1000
        return PgbenchRun(transactions, _number(told, r"tps = ([\d.]+)"), connecting_s, latencies_us)

    def _major(self) -> int:
        return int(_number(self._told([str(self._program), "--version"], _END_S), r"(\d+)"))

    def _told(self, command: list[str], timeout_s: float) -> str:
        try:
            done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=timeout_s,
                                  check=False)  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PgbenchError(str(error)) from error
        if done.returncode:
            raise PgbenchError(done.stderr.strip()[-500:])
        return done.stdout

    def _latencies(self, prefix: str) -> array[int]:
        # A line is: client, number, latency in us, script, end in s and us; with a rate also the lag behind it.
        latencies: list[int] = []
        for log in self._folder.glob(f"{prefix}.*"):
            latencies.extend(int(line.split(b" ", 3)[2]) for line in log.read_bytes().splitlines())
            log.unlink()
        return array("Q", sorted(latencies))


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise PgbenchError(f"pgbench said nothing like {pattern!r}: {text[-500:]}")
    return float(found.group(1))
