"""The registers of a campaign, in a process of their own: a campaign that is busy must not look like a stuck server.

    python -m tests.campaign.fleet

Reads one JSON object a line from standard input and answers each with one: first {"groups"}, a list of {"port",
"terminals", "twins"} for the server's port and a relay's; then for each round {"round", "seed", "log", "hot", "cool",
"changing", "spare", "think_s"} and {"grace_s"}, which ends it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from tests.campaign.noted_client import Notebook, NotedClient, card_of
from tests.campaign.proxy import LOOPBACK
from tests.campaign.register import FleetRegister, Till
from tests.judge.events import EventLog

# The lines of a register's second client are numbered from here, so that no two connections have one number.
_TWIN_LINES = 1_000_000


class Fleet:
    """All registers, and the round that they are in."""

    def __init__(self, notebook: Notebook, registers: list[FleetRegister]) -> None:
        self._notebook, self._registers = notebook, registers
        self._till: Till | None = None
        self._working: list[asyncio.Task[None]] = []

    def begin(self, order: dict[str, Any]) -> dict[str, Any]:
        """Let every register work on the cards of a new round."""
        roles = [order[role] for role in ("hot", "cool", "changing", "spare")]
        self._notebook.begin(EventLog(Path(order["log"])), [number for numbers in roles for number in numbers])
        cards = [[card_of(number) for number in numbers] for numbers in roles]
        self._till = Till(*cards, think_s=order["think_s"])
        self._working = [
            asyncio.create_task(register.work(self._till, random.Random(f"{order['seed']} {register.code}")))  # noqa: S311
            for register in self._registers
        ]
        return {"registers": len(self._registers)}

    async def end(self, order: dict[str, Any]) -> dict[str, Any]:
        """Let the registers finish what they have begun; what is not answered within the grace time never is."""
        assert self._till is not None
        self._till.ending = True
        done, pending = await asyncio.wait(self._working, timeout=order["grace_s"])
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()
        return {"unfinished": len(pending), "rejected": self._till.rejected}


async def main() -> None:
    """Obey until standard input ends."""
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = json.loads(await reader.readline())
    notebook = Notebook()
    async with AsyncExitStack() as stack:
        registers = []
        for group in first["groups"]:
            for index, (code, secret) in enumerate(group["terminals"]):
                where = (LOOPBACK, group["port"], code, secret)
                client = await stack.enter_async_context(NotedClient(notebook, 0, *where))
                twin = None
                if index < group["twins"]:
                    twin = await stack.enter_async_context(NotedClient(notebook, _TWIN_LINES, *where))
                registers.append(FleetRegister(code, client, twin))
        fleet = Fleet(notebook, registers)
        _say({"registers": len(registers)})
        while line := await reader.readline():
            order = json.loads(line)
            _say(fleet.begin(order) if "round" in order else await fleet.end(order))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
