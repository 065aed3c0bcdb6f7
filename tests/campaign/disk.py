"""PostgreSQL's disk, small enough to be filled: a tmpfs where mounting is allowed, else a limit on file sizes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from server.engines.child import EngineError
from server.engines.processes import descendants

TMPFS_BYTES = 768 * 2**20
_CLONE_NEWNS = 0x00020000
_CHUNK_BYTES = 2**20
# Limits of another user's processes are not even root's to change in many containers, so this becomes that user.
_SET_LIMITS = """
import os, resource, sys
uid, gid, size, *pids = map(int, sys.argv[1:])
if os.geteuid() != uid:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
for pid in pids:
    try:
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    except ProcessLookupError:
        pass
"""


class Disk(Protocol):
    """Can be full and be freed again."""

    name: str

    def fill(self) -> None:
        """Leave no room."""

    def free(self) -> None:
        """Give the room back. Harmless when there was some."""

    def close(self) -> None:
        """Take it away, after the engine has stopped."""


class Tmpfs:
    """A file system of its own in memory, with a file that takes up whatever room is left. Raises OSError."""

    name = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"
        folder.mkdir()
        options = f"size={TMPFS_BYTES},mode=0711"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tillwire-campaign", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            folder.rmdir()
            raise OSError(done.stderr.decode(errors="replace").strip())

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("wb", buffering=0) as filler:
            for size in (_CHUNK_BYTES, 4096):
                try:
                    while filler.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount; lazily, so that a process that still looks at it cannot keep it mounted for ever."""
        subprocess.run(["umount", "-l", str(self._folder)], capture_output=True, check=True)
        self._folder.rmdir()


class FileSizeLimit:
    """Lets no file of a process grow beyond a size, for PostgreSQL below that of a WAL segment: as good as full.

    `pid` tells the process's (the postmaster's, whose new processes inherit the limit).
    """

    name = "file size limit"

    def __init__(self, pid: Callable[[], int], size: int = 8 * 2**20) -> None:
        self._pid, self._size = pid, size

    def fill(self) -> None:
        """Leave no room."""
        self._limit(self._size)

    def free(self) -> None:
        """Give the room back."""
        # A server that found no room even for its own recovery has ended, and the limit with it.
        with contextlib.suppress(EngineError):
            self._limit(resource.RLIM_INFINITY)

    def close(self) -> None:
        """Nothing is left behind."""

    def _limit(self, size: int) -> None:
        postmaster = self._pid()
        owner = Path(f"/proc/{postmaster}").stat()
        pids = [str(pid) for pid in (postmaster, *descendants(postmaster))]
        words = [str(owner.st_uid), str(owner.st_gid), str(size), *pids]
        subprocess.run([sys.executable, "-I", "-S", "-c", _SET_LIMITS, *words], check=True)


def keep_mounts_private() -> bool:
    """Give this process and its children mounts of their own, which go away with the last of them, however it dies.

    Returns whether that is allowed. To be called before there are other threads.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode == 0


def disk_for(folder: Path, pid: Callable[[], int], *, mounting: bool) -> Disk:
    """Return the most honest disk that this process may have at the folder; `pid` as for FileSizeLimit."""
    if mounting:
        try:
            return Tmpfs(folder)
        except OSError:
            pass
    return FileSizeLimit(pid)
