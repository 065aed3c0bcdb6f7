"""An engine's password: made once, kept in a file that only its owner can read."""

import contextlib
import os
import secrets
from pathlib import Path

from server.engines.child import EngineError


def password_in(file: Path) -> str:
    """Return the password in `file`, which is created with mode 0600 if it is not there."""
    if not file.exists():
        # Linked when whole: an aborted write must not leave an empty password.
        fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
        write_private(fresh, secrets.token_urlsafe(24))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, file)
        fresh.unlink()
    try:
        password = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise EngineError(f"{file} cannot be read: {error.strerror}") from None
    if not password:
        raise EngineError(f"{file} is empty: put the engine's password back, or remove the folder to start anew")
    return password


def write_private(file: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """Write a file of mode 0600, replacing any, for this user or for `owner` (uid, gid)."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        if owner is not None:
            os.fchown(opened.fileno(), *owner)
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
