"""Where a worker's UNIX socket lies: a path of its own for each start, so that no address ever means another worker."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import tempfile
from pathlib import Path

# sun_path holds 108 bytes on Linux and 104 on macOS, its end mark included.
_PATH_BYTES_MAX = 103


def new_address(data_dir: Path, index: int) -> str:
    """Return a fresh path in a folder that only this user may enter, after removing what dead workers left there."""
    name = f"{index}-{secrets.token_hex(4)}.sock"
    folder = data_dir.resolve() / "run"
    if len(os.fsencode(folder / name)) > _PATH_BYTES_MAX:
        digest = hashlib.blake2b(os.fsencode(folder), digest_size=6).hexdigest()
        folder = Path(tempfile.gettempdir()) / f"tillwire-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        # In a shared folder for temporary files somebody else may have been first.
        folder = Path(tempfile.mkdtemp(prefix="tillwire-"))
    folder.chmod(0o700)
    for left in folder.glob(f"{index}-*.sock"):
        if not _answers(left):
            left.unlink(missing_ok=True)
    return str(folder / name)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
