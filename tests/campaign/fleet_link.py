"""The campaign's end of the fleet's process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.campaign.site import CHECKOUT


class Group(NamedTuple):
    """Registers that connect to one port; the first `twins` of them twice."""

    port: int
    terminals: Sequence[tuple[str, str]]
    twins: int


class FleetLink:
    """Tells the fleet what to do."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self._process, self._log_file = process, log_file

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order and return the answer. Raises RuntimeError when the fleet has died of a bug."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fleet ended:\n{self._log_file.read_text()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def running_fleet(folder: Path, *groups: Group) -> AsyncIterator[FleetLink]:
    """Run a fleet: one register a terminal, the first ones of each group with a second connection."""
    log_file = folder / "fleet.log"
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.campaign.fleet",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, start_new_session=True,
        )  # fmt: skip
    link = FleetLink(process, log_file)
    try:
        await link.ask({"groups": [group._asdict() for group in groups]})
        yield link
    finally:
        # It ends with its standard input.
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()
