"""Blocks of memory that the server's hot path asks Python's allocator for, for each durable redeem.

    TILLWIRE_POSTGRES_URL=... TILLWIRE_REDIS_URL=... \\
        python -m tests.measurements.allocations --folder FOLDER [--redeems 20000] [--json]

FOLDER is that of a `loadtests.installation.Installation` with a population, whose engines run and whose server does
not: the worker runs in this process, as it does in production, with listener, ledger, Redis and PostgreSQL, and the
registers in another one. Counted is everything between the first and the last of the redeems, by
`tests.measurements.allocation_counter`; objects that Python takes from its own free lists are not among them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import sys
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from pydantic import SecretStr

from ledger.clock import SystemClock
from ledger.ledger import Place
from loadtests.installation import Population
from protocol.codes import Outcome
from protocol.requests import Receipt, RedeemRequest, Request
from server.ledger_engines import ledger_engines
from server.observation.logs import configure_logging
from server.secrets import load_secrets
from server.settings import Settings
from server.workers.peer_address import new_address
from server.workers.worker import Worker
from tests.measurements.allocation_counter import AllocationCounter, NotCountable
from tests.measurements.lean_register import Tally, answer_all, sign_on

_REGISTERS = 256
_POINTS = 100
_TTL_MS = 60_000
_END_S, _PATIENCE_S = 10.0, 120.0


@dataclass(frozen=True, slots=True)
class Found:
    """What one run brought: blocks asked for by each redeem, and the run's size."""

    allocations_per_redeem: float
    redeems: int
    registers: int


async def measure(folder: Path, postgres_url: str, redis_url: str, redeems: int) -> Found:
    """Run the worker here and the registers elsewhere. Raises NotCountable, and RuntimeError when a redeem failed."""
    counter = AllocationCounter()
    population = Population.read(folder / "population.json")
    settings = Settings(data_dir=folder / "data", postgres_url=SecretStr(postgres_url), redis_url=SecretStr(redis_url))
    keys = load_secrets(settings)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listening.getsockname()[1]
    listening.setblocking(False)
    place = Place(new_address(settings.data_dir, 0), 0, 1)
    worker = Worker(settings, keys, listening, place, ledger_engines(settings, keys), SystemClock(), os.urandom)
    await worker.start()
    gc.collect()
    gc.freeze()
    ours, theirs = get_context("spawn").Pipe()
    registers = get_context("spawn").Process(target=_drive, args=(theirs, port, population, redeems), daemon=True)
    registers.start()
    theirs.close()
    try:
        with counter:
            await _told(ours)
            before = counter.count
            ours.send(None)
            problem = await _told(ours)
            counted = counter.count - before
    finally:
        registers.join(_END_S)
        registers.kill()
        await worker.stop()
    if problem:
        raise RuntimeError(problem)
    return Found(round(counted / redeems, 1), redeems, min(_REGISTERS, population.terminals))


async def _told(connection: Connection) -> Any:
    """Return what the other process says, without keeping the loop waiting for it. Raises TimeoutError."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), told.set)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await told.wait()
    finally:
        loop.remove_reader(connection.fileno())
    return connection.recv()


def _drive(connection: Connection, port: int, population: Population, redeems: int) -> None:
    """Be the registers: sign on, warm up, tell, wait for the word, redeem, tell what went wrong."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_redeem(connection, port, population, redeems))


async def _redeem(connection: Connection, port: int, population: Population, redeems: int) -> None:
    tally = Tally()
    terminals = [population.terminal(number) for number in range(min(_REGISTERS, population.terminals))]
    registers = await sign_on("127.0.0.1", port, terminals, population.secret, tally)
    # These cards are warm afterwards, and the redeems that count keep to them.
    warm = max(1, min(population.accounts, redeems // 4))
    await answer_all(registers, [_request(population, number) for number in range(warm)])
    tally.outcomes.clear()
    tally.errors.clear()
    dice = random.Random(redeems)  # noqa: S311 - which account spends is no secret
    asked = [_request(population, dice.randrange(warm)) for _ in range(redeems)]
    connection.send(None)
    connection.recv()
    await answer_all(registers, asked)
    approved = tally.outcomes[Outcome.APPROVED]
    connection.send(
        "" if approved == redeems and not tally.errors else f"{approved} of {redeems} approved: {tally.errors}"
    )
    for register in registers:
        register.close()


def _request(population: Population, number: int) -> Request:
    return RedeemRequest(os.urandom(16), _TTL_MS, population.card(number), _POINTS, Receipt(0, population.currency))


def main() -> None:
    parser = argparse.ArgumentParser(description="Allocations of the hot path for each redeem.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--redeems", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print one object and nothing else")
    options = parser.parse_args()
    configure_logging("warning", "console")
    urls = os.environ["TILLWIRE_POSTGRES_URL"], os.environ["TILLWIRE_REDIS_URL"]
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measure(options.folder, *urls, options.redeems))
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"allocations: {str(error) or 'the registers have no answers'}")
    except NotCountable as reason:
        # That is the machine's doing and no fault of what was to be measured.
        print(json.dumps({"not_countable": str(reason)}) if options.json else f"allocations: {reason}")  # noqa: T201
        return
    if options.json:
        print(json.dumps(asdict(found)))  # noqa: T201
    else:
        print(f"{found.allocations_per_redeem:g} blocks of memory for each of {found.redeems:,} redeems")  # noqa: T201


if __name__ == "__main__":
    main()
