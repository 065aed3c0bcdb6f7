"""A time of day that somebody sets wrong: the machine's, moved by what a shared file says."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from ledger.clock import SystemClock

VARIABLE = "CAMPAIGN_CLOCK_FILE"
_FORM = struct.Struct("<q")


class WrongClock(SystemClock):
    """Tells the machine's time plus an offset in ms that may change at any moment; it measures like the machine."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._offset = mmap.mmap(file.fileno(), _FORM.size, prot=mmap.PROT_READ)

    def now_ms(self) -> int:
        """Return the time of day in milliseconds since 1970 UTC, as wrong as the file says."""
        return super().now_ms() + int(_FORM.unpack(self._offset)[0])

    @classmethod
    def of_environment(cls) -> WrongClock:
        """Return the clock whose file the environment names."""
        return cls(Path(os.environ[VARIABLE]))


def set_offset(path: Path, offset_ms: int) -> None:
    """Set the clock of every process that looks at the file."""
    if not path.exists():
        path.write_bytes(_FORM.pack(0))
    with path.open("r+b") as file:
        file.write(_FORM.pack(offset_ms))
