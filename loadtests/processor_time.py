"""Processor time of processes and everything under them, from /proc. Elsewhere than on Linux nothing is measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PROC = Path("/proc")
# Positions in /proc/PID/stat behind the command's name: state, parent, and four times: user and system time of its own
# and of its children that have ended.
_STATE, _PARENT, _TIMES = 0, 1, slice(11, 15)


def processor_s(pid: int) -> float:
    """Return the user and system seconds of a process and of all that live, or have ended, under it.

    0.0 when there is no such process.
    """
    if sys.platform != "linux":
        return 0.0
    return sum(_spent_s(one) for one in (pid, *descendants(pid)))


def descendants(pid: int) -> list[int]:
    """Return the pids of all that live under a process, parents before children."""
    children: dict[int, list[int]] = {}
    if sys.platform == "linux":
        for one in [int(folder.name) for folder in _PROC.iterdir() if folder.name.isdigit()]:
            if fields := _stat(one):
                children.setdefault(int(fields[_PARENT]), []).append(one)
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found[1:]


def is_running(pid: int) -> bool:
    """Tell whether a process is alive; one that has ended and was not waited for is not."""
    fields = _stat(pid)
    return bool(fields) and fields[_STATE] not in ("Z", "X")


def _spent_s(pid: int) -> float:
    return sum(int(ticks) for ticks in _stat(pid)[_TIMES]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Return the fields behind the command's name, nothing when the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    # The name stands in brackets and may itself contain blanks and brackets.
    return text.rpartition(")")[2].split()
