"""The two things that every redemption passes, each alone: the Redis script, and the insert into the journal.

    TILLWIRE_POSTGRES_URL=... TILLWIRE_REDIS_URL=... \\
        python -m tests.measurements.ceilings [--decisions 200000] [--json]

The URLs are those of an installation whose server is stopped and whose accounts are those of `tillwire add population`.
Nothing of it is changed: the script works on a partition of its own, the insert on a copy of the database. Without URLs
an installation of 100,000 accounts is made for the measurement and deleted afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvloop

from ledger.clock import SystemClock
from ledger.entries import EntryWriter
from ledger.hot_store import Decided, HotStore, PartitionHead
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.journal.pulse import Pulse
from ledger.journal.reader import Head, Reader
from ledger.journal.writer import Batch, Writer
from ledger.limits import Limits
from ledger.operations import Operation, Outcome
from ledger.positional import positional
from ledger.programme import Network, Programme
from ledger.submission import Refusal, Submission
from loadtests.installation import Installation
from server.registers.answers import AnswerRenderer
from tests.measurements.tape import Tape

_PARTITION = 1_000_003
_GENERATION = 7
_IN_FLIGHT = 4
_LOADED_AT_ONCE = 1_000
_READ_AT_ONCE = 50_000
_POINTS = 100
_TERMINALS = 256
_TIMEOUT_S = 60.0
_COPY = "tillwire_ceiling"


class CeilingError(Exception):
    """What was measured did not do what it should; the figure would be worth nothing."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What one run brought: decisions and entries a second, each part alone, and how many there were of each."""

    script_per_s: float
    journal_per_s: float
    decisions: int
    entries: int
    batch_requests: int
    in_flight: int


class _Nobody:
    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        pass

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Population:
    """The accounts of an installation as PostgreSQL has them: heads and card tokens, and the network they spend in."""

    heads: dict[int, Head]
    tokens: dict[int, bytes]
    network: Network
    programme: Programme


async def read_population(postgres_url: str) -> Population:
    """Read all accounts. Raises CeilingError when there are none."""
    connection: Any = await asyncpg.connect(postgres_url)
    try:
        tokens = {
            row["account_id"]: row["token"] for row in await connection.fetch("SELECT account_id, token FROM card")
        }
    finally:
        await connection.close()
    if not tokens:
        raise CeilingError("there are no accounts: tillwire add population makes some")
    pulse = Pulse(SystemClock(), silence_s=_TIMEOUT_S)
    reader = Reader(Postgres(postgres_url), pulse, connections_max=1, timeout_s=_TIMEOUT_S)
    try:
        programme = await reader.programme()
        heads: dict[int, Head] = {}
        accounts = sorted(tokens)
        for at in range(0, len(accounts), _READ_AT_ONCE):
            heads |= await reader.heads(accounts[at : at + _READ_AT_ONCE])
    finally:
        await reader.close()
    return Population(heads, tokens, next(iter(programme.networks.values())), programme)


async def measure_script(population: Population, redis_url: str, decisions: int) -> tuple[list[Decided], float]:
    """Let Redis decide redemptions of warm accounts, batch behind batch; return the decisions and the seconds."""
    tape = _tape(population, decisions)
    store = HotStore.at(redis_url, timeout_s=_TIMEOUT_S)
    accounts = list(population.heads)
    try:
        await store.reset(_PARTITION, _head(0))
        # Loading makes the script known and the accounts warm.
        for at in range(0, len(accounts), _LOADED_AT_ONCE):
            part = accounts[at : at + _LOADED_AT_ONCE]
            loads = [(i, population.heads[a].link, population.heads[a].state) for i, a in enumerate(part, start=1)]
            await store.decide(_PARTITION, _head(0), 0, part, [0, [], loads, []])
        replies, elapsed_s = await asyncio.to_thread(tape.play, redis_url, in_flight=_IN_FLIGHT)
        decided = tape.decided(replies)
    finally:
        for at in range(0, len(accounts), _LOADED_AT_ONCE):
            await store.forget(_PARTITION, accounts[at : at + _LOADED_AT_ONCE])
        await store.reset(_PARTITION, _head(0))
        await store.close()
    wrong = sum(result[0] != 0 or result[1] != Outcome.APPROVED for part in decided for result in part.results)
    if wrong:
        raise CeilingError(f"{wrong} redemptions were not approved")
    return decided, elapsed_s


def _tape(population: Population, decisions: int) -> Tape:
    size = Limits().batch_requests_max
    dice = random.Random(size)  # noqa: S311 - which account spends is no secret
    accounts = list(population.heads)
    now_ms = SystemClock().now_ms()
    today, utc_offset_ms = population.programme.days.day(now_ms), population.programme.days.utc_offset_ms(now_ms)
    terms = population.network.rules_at(now_ms).terms
    run = os.urandom(8)
    tape = Tape()
    for number in range(-(-decisions // size)):
        # In a closed loop over many accounts hardly any batch has the same account twice.
        chosen = dice.sample(accounts, min(size, len(accounts)))
        items = []
        for index, account in enumerate(chosen, start=1):
            request_id = run + (number * size + index).to_bytes(8, "big")
            asked = _redeem(population, account, request_id, dice.randrange(_TERMINALS), terms)
            items.append((index, 1, positional(asked, now_ms, today)))
        committed = max(0, number - _IN_FLIGHT)
        tape.take_down(_PARTITION, _head(number), committed, chosen, [utc_offset_ms, [terms], [], items])
    return tape


def _redeem(
    population: Population, account: int, request_id: bytes, terminal: int, terms: tuple[int, ...]
) -> Submission:
    network = population.network
    return Submission(
        op=Operation.REDEEM,
        request_id=request_id,
        token=population.tokens[account],
        terminal_id=terminal,
        partner_id=network.partner_id,
        network_id=network.network_id,
        fingerprint=request_id[-8:],
        terms=terms,
        deadline=0.0,
        reply_to=_Nobody(),
        points=_POINTS,
        currency=network.currency,
        account=account,
    )


def _head(mark: int) -> PartitionHead:
    return PartitionHead(1, _GENERATION, mark)


async def measure_journal(population: Population, postgres_url: str, decided: Sequence[Decided]) -> tuple[int, float]:
    """Journal what was decided, batch behind batch; return the number of entries and the seconds."""
    renderer = AnswerRenderer(lambda: population.programme, SystemClock().now_ms)
    writer = EntryWriter(renderer, bytes(32))
    batches = [writer.journaling([part]).batch for part in decided]
    entries = sum(len(batch.entries) for batch in batches)
    async with _copied(postgres_url) as url:
        before = await _entries(url)
        elapsed_s = await _commit(url, batches)
        journaled = await _entries(url) - before
    if journaled != entries:
        raise CeilingError(f"{journaled} entries were journaled, not {entries}")
    return entries, elapsed_s


async def _commit(url: str, batches: Sequence[Batch]) -> float:
    postgres = Postgres(url)
    await ensure_partitions(postgres, 1)
    writer = await Writer.try_open(postgres, 0, timeout_s=_TIMEOUT_S, idle_timeout_s=_TIMEOUT_S)
    if writer is None:
        raise CeilingError("somebody else journals into the copy")
    try:
        await writer.claim("ceilings")
        await writer.begin()
        began = time.perf_counter()
        for batch in batches:
            if vetoed := await writer.commit(batch, _forget):
                raise CeilingError(f"{len(vetoed)} accounts were vetoed")
        return time.perf_counter() - began
    finally:
        await writer.close()


async def _forget(accounts: set[int]) -> None:
    raise CeilingError(f"{len(accounts)} accounts were vetoed")


@asynccontextmanager
async def _copied(postgres_url: str) -> AsyncIterator[str]:
    """Have a copy of the database, which is dropped afterwards."""
    parts = urlsplit(postgres_url)
    original = parts.path.lstrip("/")
    # Nobody can be connected to a database that is copied, so this goes through another one.
    connection: Any = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{_COPY}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{_COPY}" TEMPLATE "{original}" STRATEGY FILE_COPY')
        await connection.execute("CHECKPOINT")
        try:
            yield urlunsplit(parts._replace(path=f"/{_COPY}"))
        finally:
            await connection.execute(f'DROP DATABASE "{_COPY}" WITH (FORCE)')
    finally:
        await connection.close()


async def _entries(url: str) -> int:
    connection: Any = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM entry"))
    finally:
        await connection.close()


async def measure(postgres_url: str, redis_url: str, decisions: int) -> Ceilings:
    """Measure both. Raises CeilingError."""
    population = await read_population(postgres_url)
    decided, script_s = await measure_script(population, redis_url, decisions)
    made = sum(len(part.results) for part in decided)
    entries, journal_s = await measure_journal(population, postgres_url, decided)
    return Ceilings(
        script_per_s=made / script_s,
        journal_per_s=entries / journal_s,
        decisions=made,
        entries=entries,
        batch_requests=Limits().batch_requests_max,
        in_flight=_IN_FLIGHT,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The Redis script alone, and the insert into the journal alone.")
    parser.add_argument("--decisions", type=int, default=200_000)
    parser.add_argument("--accounts", type=int, default=100_000, help="of the installation that is made without URLs")
    parser.add_argument("--json", action="store_true", help="print one object and nothing else")
    options = parser.parse_args()
    # They carry passwords, which an argument would show to everybody on this machine.
    postgres_url, redis_url = (os.environ.get(f"TILLWIRE_{engine}_URL", "") for engine in ("POSTGRES", "REDIS"))
    if bool(postgres_url) != bool(redis_url):
        parser.error("both URLs or none")
    with ExitStack() as stack:
        if not postgres_url:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tillwire-", ignore_cleanup_errors=True))
            installation = stack.enter_context(Installation(Path(folder)))
            installation.start_engines()
            installation.populate(options.accounts, _TERMINALS)
            postgres_url, redis_url = installation.postgres_url, installation.redis_url
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                found = runner.run(measure(postgres_url, redis_url, options.decisions))
            except CeilingError as error:
                sys.exit(f"ceilings: {error}")
    if options.json:
        print(json.dumps(asdict(found)))  # noqa: T201
    else:
        print(f"the script alone: {found.script_per_s:,.0f} decisions a second")  # noqa: T201
        print(f"the journal alone: {found.journal_per_s:,.0f} entries a second")  # noqa: T201


if __name__ == "__main__":
    main()
