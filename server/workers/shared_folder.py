"""The folder that a supervisor and its workers share while they run: metrics, the socket of its health."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "tillwire-run-"
_LOCK_FILE = "lock"


class SharedFolder:
    """A new folder under the system's temporary one, open to this user only. `close` removes it.

    Socket paths end at 107 bytes, so it is not under data_dir. A killed supervisor cannot remove its folder; but
    the kernel releases the lock in it, and the next supervisor of the same user removes what no lock holds.
    """

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder; may be called twice."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # One without a lock file is just being made; one of another user cannot be opened.
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK_FILE, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def metrics_folder(folder: Path) -> Path:
    """Return where, within the shared folder, the processes keep their numbers."""
    return folder / "metrics"
