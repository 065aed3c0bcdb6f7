"""Processor time of processes and everything under them, from /proc. Elsewhere than on Linux nothing is measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from server.engines.processes import descendants

_USER, _SYSTEM = 11, 12


def processor_s(pid: int) -> float:
    """Return user and system seconds of a process and of all that live under it now."""
    if sys.platform != "linux":
        return 0.0
    return sum(_own_s(one) for one in (pid, *descendants(pid)))


def _own_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
