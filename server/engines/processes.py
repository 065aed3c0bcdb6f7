"""What the operating system knows about other processes: Linux from /proc, elsewhere from `ps`."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

_PROC = Path("/proc")
_TCP_LISTEN = "0A"


def is_running(pid: int) -> bool:
    """Tell whether the pid is alive; a zombie is not."""
    if sys.platform == "linux":
        return _stat_field(pid, 0) not in (None, "Z", "X")
    return is_known(pid)


def is_known(pid: int) -> bool:
    """Tell whether the pid is in use, be it by a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_of(pid: int) -> str:
    """Return the command line of a process, empty when there is none or it may not be seen."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return ""
    done = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def descendants(pid: int) -> list[int]:
    """Return all processes under one, parents before children."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found[1:]


def listener_of(port: int) -> str:
    """Name who listens on a TCP port, as `valkey-server (pid 12)`; empty when that cannot be seen."""
    if sys.platform != "linux":
        return ""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return ""
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
    return ""


def _parents() -> list[tuple[int, int]]:
    if sys.platform == "linux":
        pids = [int(folder.name) for folder in _PROC.iterdir() if folder.name.isdigit()]
        return [(pid, int(parent)) for pid in pids if (parent := _stat_field(pid, 1)) is not None]
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in lines.splitlines())]


def _stat_field(pid: int, position: int) -> str | None:
    """Return a field of /proc/PID/stat, counted after the command name (0 state, 1 parent)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may itself contain blanks and brackets.
    return text.rpartition(")")[2].split()[position]


def _listening_inodes(port: int) -> list[str]:
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _TCP_LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.append(f"socket:[{fields[9]}]")
    return found
