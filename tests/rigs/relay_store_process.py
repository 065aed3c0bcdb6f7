"""A process with a relay's store, for tests that kill it, or fill its disk. `python -m ... MODE FOLDER`."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from protocol.codes import ErrorCode, Outcome
from server.relay import offline
from server.relay.store import Store
from server.relay.store_rows import Advice, Finish, StoreLimits
from tests.campaign.disk import keep_mounts_private
from tests.rigs.relay_desk import Heard, Premises, earn

TAKERS = 64
DISK_BYTES = 2 * 2**20
FILE_BYTES = 2**20


async def take_for_ever(folder: Path) -> None:
    """Take as fast as it goes; tell each id only after the store has said that it is taken. Some are finished."""
    store = await Store.open(folder, StoreLimits())

    async def take(finishes: bool) -> None:
        while True:
            request = earn()
            card = store.hash(request.card.token or "")
            message = offline.stored_message(request)
            body = b"\x96" + request.request_id
            await store.take(Advice(request.request_id, b"f" * 8, 21, card, "till-1", message, body, 1, 1))
            line = "taken " + request.request_id.hex()
            if finishes:
                await store.finish([Finish(request.request_id, 5)])
                line = "done " + request.request_id.hex()
            os.write(1, line.encode() + b"\n")

    await asyncio.gather(*[take(n % 8 == 0) for n in range(TAKERS)])


async def fill_the_disk(folder: Path, free: Callable[[], None]) -> None:
    """Let a desk run against the wall, see what it says there, and whether it goes on afterwards."""
    shop = Premises(folder)
    await shop.open()
    shop.line.up = False
    told: list[Heard] = []
    approved: list[bytes] = []

    async def earn_some(count: int) -> list[Heard]:
        requests = [earn() for _ in range(count)]
        heard = await asyncio.gather(*[shop.ask(each) for each in requests])
        approved.extend(r.request_id for r, h in zip(requests, heard, strict=True) if h.body is not None)
        return heard

    while not told or all(each.body is not None for each in told):
        told = await earn_some(20)
    refused = {each.error for each in await earn_some(20)}
    failing = shop.store.failing
    shop.line.up = True
    live = await shop.ask(earn())
    shop.line.up = False
    free()
    recovered = [each.body is not None for each in await earn_some(20)]
    await shop.close()
    again = await Store.open(folder, shop.limits)
    lost = [each for each in approved if each not in again.queued]
    more = len(again.queued) - len(approved)
    await again.close()
    sys.stdout.write(
        json.dumps(
            {
                "approved": len(approved),
                "refused": sorted(ErrorCode(each or 0).name for each in refused),
                "said": failing is not None,
                "live": live.body is not None and live.outcome == Outcome.APPROVED,
                "recovered": all(recovered),
                "lost": len(lost),
                "more": more,
            }
        )
    )


def main(mode: str, folder: Path) -> None:
    if mode == "take":
        asyncio.run(take_for_ever(folder))
    elif mode == "small disk":
        if not keep_mounts_private():
            sys.stdout.write(json.dumps({"not": "allowed to mount"}))
            return
        options = f"size={DISK_BYTES},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "relay", str(folder)], check=True)
        larger = ["mount", "-o", f"remount,size={DISK_BYTES * 8}", str(folder)]
        asyncio.run(fill_the_disk(folder / "relay", lambda: subprocess.run(larger, check=True) and None))
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, hard))
        asyncio.run(fill_the_disk(folder / "relay", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
