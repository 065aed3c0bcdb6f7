"""One proof of the books in a process of its own, started by the admin process as `python -m`, and ended with it.

It reads one JSON line from standard input, `{"postgres_url", "redis_url", "redis_timeout_s", "seal_key"}`, so that no
secret stands in an argument or the environment, and writes JSON lines: `{"done": 2000, "total": 5000}`, at most a few a
second, and at last `{"state": "clean" | "not clean" | "failed", "findings": {...}}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from dataclasses import asdict
from typing import Any

import orjson

from ledger.audit import BadRow
from ledger.hot_store import HotStoreDown
from ledger.journal.writer import JournalDown
from server.proof import prove

_TOLD_INTERVAL_S = 0.2
# Registers come first where processors are few.
_NICENESS = 10


async def proved(given: dict[str, Any]) -> dict[str, Any]:
    """Prove, telling how far it is; return the last line."""
    told_at = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TOLD_INTERVAL_S or done == total:
            told_at = time.monotonic()
            _tell({"done": done, "total": total})

    try:
        verified = await prove(
            given["postgres_url"],
            given["redis_url"],
            bytes.fromhex(given["seal_key"]),
            progress,
            redis_timeout_s=given["redis_timeout_s"],
        )
    except BadRow as bad:
        return {"state": "not clean", "findings": {"account": bad.account, "seq": bad.seq, "what": str(bad)}}
    except (JournalDown, HotStoreDown, OSError) as error:
        return {"state": "failed", "findings": {"what": f"the journal could not be verified: {error}"}}
    return {"state": "clean", "findings": asdict(verified)}


def _tell(line: dict[str, Any]) -> None:
    # Whoever has asked may be gone; then this process is about to be, too.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    """Prove once."""
    os.nice(_NICENESS)
    _tell(asyncio.run(proved(orjson.loads(sys.stdin.buffer.readline()))))


if __name__ == "__main__":
    main()
