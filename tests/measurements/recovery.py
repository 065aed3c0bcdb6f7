"""How soon the first answer comes after the worst: a million accounts in PostgreSQL and nothing in Redis.

    python -m tests.measurements.recovery [--accounts 1000000] [--cold 4000]

Measures in seconds, each without anybody lending a hand: the start of the server to its first answer, the emptying of
Redis to the next answer, and the death of everything at once to the first answer. Then asks for some thousand accounts
at once that Redis has never seen. Prints a table, and one JSON object as its last line; exits with 1 when a row of the
journal or an answer is wrong.
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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import redis.asyncio as redis
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ledger.audit import BadRow
from ledger.hot_store import HotStore
from ledger.verify import verify
from protocol.answers import Answer
from protocol.codes import ErrorCode, Outcome
from protocol.requests import BalanceRequest, Receipt, RedeemRequest, Request
from protocol.scram import SaltedKey
from server.population.filling import Plan, fill
from server.population.programme import CURRENCY
from server.programme_setup import numbered_card
from tests.measurements.lean_register import LeanRegister, Tally, answer_all, sign_on
from tests.measurements.premises import Premises

_TTL_MS = 30_000
_PATIENCE_S = 120.0
_KNOCK_S = 0.002
REGISTERS = 64
LOTS = 2


@dataclass
class Found:
    """Seconds, unless the name says otherwise."""

    accounts: int = 0
    load_before: float = 0.0
    opening_s: float = 0.0
    start_to_first_answer_s: float = 0.0
    flush_to_next_answer_s: float = 0.0
    kill_engines_started_s: float = 0.0
    kill_to_first_answer_s: float = 0.0
    cold_accounts: int = 0
    cold_accounts_s: float = 0.0
    cold_accounts_per_s: int = 0
    cold_p99_ms: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    verified_accounts: int = 0
    faults: list[str] = field(default_factory=list)


class Recovery:
    """The measurements, one after the other, on premises whose engines run."""

    def __init__(self, premises: Premises, accounts: int, seed: int) -> None:
        self.found = Found(accounts=accounts, load_before=round(os.getloadavg()[0], 2))
        self._premises = premises
        self._dice = random.Random(seed)  # noqa: S311 - which accounts are asked for is no secret
        self._salted: SaltedKey | None = None
        self._spent: dict[int, int] = {}

    async def open(self, progress: Callable[[int], None]) -> None:
        """Fill PostgreSQL."""
        began = time.perf_counter()
        premises = self._premises
        plan = Plan(
            self.found.accounts,
            lots=LOTS,
            journal_rows=0,
            origin=premises.origin,
            token_key=premises.keys.token_key,
            seal_key=premises.keys.seal_key,
        )
        await asyncio.to_thread(fill, premises.postgres.url, plan, progress)
        self.found.opening_s = _since(began)

    async def start(self) -> None:
        """Start the server beside an empty Redis and wait for the first answer."""
        began = time.perf_counter()
        self._premises.start_server()
        await self._first_answer()
        self.found.start_to_first_answer_s = _since(began)

    async def flush(self) -> None:
        """Empty Redis under a server at work and wait for the next answer."""
        register = await self._signed_on(Tally())
        await self._spend(register)
        async with redis.Redis.from_url(self._premises.valkey.url) as client:
            await client.flushall()
        began = time.perf_counter()
        await self._spend(register)
        self.found.flush_to_next_answer_s = _since(began)
        register.close()

    async def kill_everything(self) -> None:
        """Kill server and engines at once, start them again as an init system would, and wait for the first answer."""
        premises = self._premises
        premises.server.kill()
        premises.valkey.kill()
        premises.postgres.kill()
        began = time.perf_counter()
        premises.start_server()
        await asyncio.gather(asyncio.to_thread(premises.valkey.start), asyncio.to_thread(premises.postgres.start))
        self.found.kill_engines_started_s = _since(began)
        await self._first_answer()
        self.found.kill_to_first_answer_s = _since(began)

    async def ask_cold(self, count: int) -> None:
        """Ask for so many accounts at once that Redis does not hold."""
        premises = self._premises
        async with redis.Redis.from_url(premises.valkey.url) as client:
            await client.flushall()
        # The partition begins anew with the first request that finds Redis empty; that is not the question here.
        await self._first_answer()
        tally = Tally()
        terminals = [premises.terminal(number) for number in range(REGISTERS)]
        registers = await sign_on(premises.host, premises.port, terminals, premises.secret, tally)
        numbers = self._dice.sample(range(self.found.accounts), count)
        asked: list[Request] = [BalanceRequest(os.urandom(16), _TTL_MS, numbered_card(number)) for number in numbers]
        elapsed_s = await answer_all(registers, asked, at_once=-(-count // REGISTERS))
        self.found.cold_accounts, self.found.cold_accounts_s = count, round(elapsed_s, 3)
        self.found.cold_accounts_per_s = int(count / elapsed_s)
        self.found.cold_p99_ms = tally.percentile_ms(0.99)
        self.found.errors = {ErrorCode(code).name: n for code, n in tally.errors.items()}
        for register in registers:
            register.close()
        balances = await self._balances(numbers)
        for number, request in zip(numbers, asked, strict=True):
            told = Answer.from_body(tally.bodies[request.request_id]).balance
            if told is None or told.available != balances[number]:
                self._fault(f"account {number} has {balances[number]}, but the answer was {told}")

    async def check(self, *, all_accounts: bool) -> None:
        """Recompute journals; look that every spend that was approved is in there once."""
        for number, points in self._spent.items():
            token = self._premises.token(numbered_card(number))
            sql = "SELECT coalesce(sum(spent), 0)::bigint AS n FROM entry JOIN card USING (account_id) WHERE token = $1"
            journaled = (await self._premises.fetch(sql, token))[0]["n"]
            if journaled != points:
                self._fault(f"{points} points were spent of account {number}, the journal says {journaled}")
        if not all_accounts:
            return
        hot_store = HotStore.at(self._premises.valkey.url, timeout_s=10.0)
        try:
            key = self._premises.keys.seal_key
            self.found.verified_accounts = (
                await verify(self._premises.postgres.url, hot_store, key, lambda _done, _total: None)
            ).accounts
        except BadRow as bad:
            self._fault(str(bad))
        finally:
            await hot_store.close()

    async def _first_answer(self) -> None:
        """Knock like a register that lost its connection, and spend a point of an account that is not in Redis."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                with suppress(ConnectionError):
                    register = await self._signed_on(Tally())
                    await self._spend(register)
                    register.close()
                    return
                if not self._premises.server.alive:
                    raise RuntimeError(f"the server ended: {self._premises.server.last_words()}")
                await asyncio.sleep(_KNOCK_S)

    async def _signed_on(self, tally: Tally) -> LeanRegister:
        premises = self._premises
        registers = await sign_on(
            premises.host, premises.port, [premises.terminal(0)], premises.secret, tally, self._salted
        )
        self._salted = registers[0].salted
        return registers[0]

    async def _spend(self, register: LeanRegister) -> None:
        number = self._dice.randrange(self.found.accounts)
        request = RedeemRequest(os.urandom(16), _TTL_MS, numbered_card(number), 1, Receipt(0, CURRENCY))
        await answer_all([register], [request])
        outcome = register.tally.bodies[request.request_id][1]
        if outcome != Outcome.APPROVED:
            self._fault(f"a point of account {number} could not be spent: outcome {outcome}")
        self._spent[number] = self._spent.get(number, 0) + 1

    async def _balances(self, numbers: list[int]) -> dict[int, int]:
        of = {self._premises.token(numbered_card(number)): number for number in numbers}
        sql = "SELECT token, balance - held AS n FROM account JOIN card USING (account_id) WHERE token = ANY ($1)"
        return {of[row["token"]]: row["n"] for row in await self._premises.fetch(sql, list(of))}

    def _fault(self, sentence: str) -> None:
        if len(self.found.faults) < 10:
            self.found.faults.append(sentence)


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


async def measure(premises: Premises, accounts: int, cold: int, progress: Callable[[int], None], *,
                  verify_all: bool) -> Found:  # fmt: skip
    """Do all measurements on premises where nothing runs yet; they are stopped afterwards."""
    recovery = Recovery(premises, accounts, seed=accounts)
    try:
        premises.start_engines()
        await premises.found(REGISTERS)
        await recovery.open(progress)
        await asyncio.to_thread(premises.compile)
        await recovery.start()
        await recovery.flush()
        await recovery.kill_everything()
        await recovery.ask_cold(cold)
        await recovery.check(all_accounts=verify_all)
    finally:
        premises.stop()
    return recovery.found


def _show(found: Found) -> None:
    table = Table("what", "", title=f"{found.accounts:,} accounts, Redis empty")
    for name, value in asdict(found).items():
        if name not in ("accounts", "faults"):
            table.add_row(name.replace("_", " "), str(value or "none") if name == "errors" else str(value))
    console = Console(stderr=True, width=100)
    console.print(table)
    for fault in found.faults:
        console.print(f"WRONG: {fault}", style="bold red")


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon the first answer comes when Redis is empty.")
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--cold", type=int, default=4_000, help="accounts asked for at once at the end, at most 4096")
    parser.add_argument("--verify", action="store_true", help="recompute the journal of every account (minutes)")
    options = parser.parse_args()
    columns = (TextColumn("opening accounts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="tillwire-recovery-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (
            Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            task = bar.add_task("opening", total=options.accounts)
            found = runner.run(
                measure(
                    Premises(folder),
                    options.accounts,
                    min(options.cold, options.accounts),
                    lambda done: bar.update(task, completed=done),
                    verify_all=options.verify,
                )
            )
    _show(found)
    print(json.dumps(asdict(found)))  # noqa: T201
    sys.exit(1 if found.faults else 0)


if __name__ == "__main__":
    main()
