"""The stages about connections themselves: what a silent one costs, and how soon all are back after a restart."""

from __future__ import annotations

import re
import time
from pathlib import Path

from loadtests.bench.stages import Bench
from loadtests.generator.process import holding
from loadtests.generator.target import Target
from loadtests.processor_time import descendants

_RETURNING = 3_000
_FIRST = 16
_QUIET_S = 1.0
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


class IdleConnectionsStage:
    """Registers that are signed on and say nothing."""

    name = "idle_connections"

    def run(self, bench: Bench) -> None:
        """Put `kib_per_idle_connection`."""
        bench.stop_serving()
        installation = bench.serve()
        target = Target(installation.population)
        count = bench.scale.idle_connections
        with holding(target, _FIRST) as first:
            # What the first connections make the server load is no connection's.
            first.expect("ready")
            before_kib = _resident_kib(installation.server_pid)
            with holding(target, count) as many:
                came = many.expect("ready")
                time.sleep(_QUIET_S)
                each_kib = (_resident_kib(installation.server_pid) - before_kib) / count
        bench.figures.put("kib_per_idle_connection", each_kib)
        took_s = came["complete_s"] - came["first_contact_s"]
        bench.say(f"{count:,} connections in {took_s:.1f} s, {each_kib:.1f} KiB each")


class ReconnectStage:
    """The server stops as an operator stops it and starts again; every register comes back as SPEC.md has it."""

    name = "reconnect"

    def run(self, bench: Bench) -> None:
        """Put `reconnect_3000_s`, counted from the start of the new server."""
        installation = bench.serve()
        with holding(Target(installation.population), _RETURNING) as registers:
            came = registers.expect("ready")
            bench.stop_serving()
            began_s = time.monotonic()
            bench.serve()
            ready_s = time.monotonic()
            back = registers.expect("ready")
        bench.figures.put(f"reconnect_{_RETURNING}_s", back["complete_s"] - began_s)
        bench.say(
            f"{_RETURNING:,} registers: at first in {came['complete_s'] - came['first_contact_s']:.1f} s; after a "
            f"restart in {back['complete_s'] - began_s:.1f} s, {ready_s - began_s:.1f} s of them the server's start"
        )


def _resident_kib(pid: int) -> int:
    """Return the resident memory of a process and all under it."""
    return sum(_own_kib(one) for one in (pid, *descendants(pid)))


def _own_kib(pid: int) -> int:
    try:
        found = _RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
