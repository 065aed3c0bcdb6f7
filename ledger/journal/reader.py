"""What is read from PostgreSQL: heads, stored answers, families of entries, cards, the programme."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg

from ledger.business_day import BusinessDay
from ledger.journal.postgres import Postgres
from ledger.journal.pulse import Pulse
from ledger.journal.statements import statement
from ledger.journal.writer import DOWN, JournalDown
from ledger.programme import Network, Programme, Rules, Terminal
from ledger.relays import Relay, RelayConflict, RelayReport


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an account's journal and the packed state that the decision left there."""

    seq: int
    link: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What is journaled under a request id; a tombstone has no fingerprint."""

    account: int
    op: int
    fingerprint: bytes | None
    answer: bytes


@dataclass(frozen=True, slots=True)
class CardRow:
    """Where a token leads; `pristine`: the account behind has never had an entry, `former`: it led elsewhere once."""

    account: int
    status: int
    pristine: bool
    former: bool = False


class Reader:
    """Reads from PostgreSQL through a small pool. Every method raises JournalDown when PostgreSQL does not answer."""

    def __init__(self, postgres: Postgres, pulse: Pulse, *, connections_max: int, timeout_s: float) -> None:
        self._postgres = postgres
        self._pulse = pulse
        self._connections_max = connections_max
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None

    async def close(self) -> None:
        """Disconnect; may be called twice."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def heads(self, accounts: Sequence[int]) -> dict[int, Head]:
        """Return the heads of the accounts that exist."""
        rows = await self._fetch("find_accounts", accounts)
        return {row["account_id"]: Head(row["seq"], row["link"], row["state"]) for row in rows}

    async def stored(self, request_ids: Sequence[bytes]) -> dict[bytes, Stored]:
        """Return what is journaled under the request ids."""
        rows = await self._fetch("find_requests", request_ids)
        return {r["request_id"]: Stored(r["account_id"], r["op"], r["fingerprint"], r["answer"]) for r in rows}

    async def families(self, request_ids: Sequence[bytes]) -> dict[bytes, list[asyncpg.Record]]:
        """Return each journaled request and behind it all entries that target it, directly or not."""
        families: dict[bytes, list[asyncpg.Record]] = {}
        for row in await self._fetch("family", request_ids):
            families.setdefault(row["original"], []).append(row)
        return families

    async def merged_into(self, accounts: Sequence[int]) -> dict[int, int]:
        """Return the account that each of those that were merged has become part of in the end."""
        return {row["account_id"]: row["reached"] for row in await self._fetch("merged_into", accounts)}

    async def cards(self, tokens: Sequence[bytes]) -> dict[bytes, CardRow]:
        """Return where the tokens lead."""
        rows = await self._fetch("find_cards", tokens)
        return {r["token"]: CardRow(r["account_id"], r["status"], r["pristine"], r["former"]) for r in rows}

    async def former_homes(self, asked: Sequence[tuple[bytes, bytes]]) -> dict[tuple[bytes, bytes], int]:
        """Return by token and request the account of the request, if the card was taken from it, or from one in it."""
        rows = await self._fetch("find_former_homes", [token for token, _ in asked], [named for _, named in asked])
        accounts = {account for row in rows for account in (row["account_id"], row["taken_from"])}
        merged = await self.merged_into(list(accounts)) if accounts else {}
        pairs = [(row, merged.get(row["account_id"], row["account_id"])) for row in rows]
        return {
            (row["token"], row["request_id"]): account
            for row, account in pairs
            if account == merged.get(row["taken_from"], row["taken_from"])
        }

    async def greetings(self, accounts: Sequence[int]) -> dict[int, bytes]:
        """Return the encrypted greeting names of those accounts that have one."""
        return {row["account_id"]: row["greeting"] for row in await self._fetch("find_greetings", accounts)}

    async def due_accounts(self, now_ms: int, partitions: int, partition: int, limit: int) -> list[int]:
        """Return accounts of the partition in which a hold or a lot has run out, longest overdue first."""
        return [row["account_id"] for row in await self._fetch("due_accounts", now_ms, partitions, partition, limit)]

    async def partition_owners(self) -> tuple[int, dict[int, str]]:
        """Return the programme's version and the owner's address of each partition."""
        rows = await self._fetch("partition_owners")
        return (rows[0]["version"] if rows else 0), {r["partition_id"]: r["owner"] for r in rows}

    async def ask_for_partition(self, partition: int, owner: str) -> None:
        """Tell the present owner of a partition that the worker it belongs to by plan is here and wants it."""
        await self._fetch("ask_for_partition", partition, owner)

    async def terminal_spent(self, terminal_id: int, day: int) -> int:
        """Return the points that a limited terminal spent on a day."""
        rows = await self._fetch("terminal_spent", terminal_id, day)
        return int(rows[0]["spent"]) if rows else 0

    async def terminals(self, codes: Sequence[str]) -> dict[str, Terminal]:
        """Return those of the terminals that exist, with credentials and permissions, by their codes."""
        rows = await self._fetch("terminals_by_code", codes)
        return {row["code"]: _terminal(row) for row in rows}

    async def relays(self, codes: Sequence[str]) -> dict[str, Relay]:
        """Return those of the codes that are relays."""
        rows = await self._fetch("relays_by_code", codes)
        return {
            row["code"]: Relay(_terminal(row), row["generation"], row["allowance_points"], row["allowance_ms"])
            for row in rows
        }

    async def registers(self, stores: Sequence[int]) -> dict[int, list[Terminal]]:
        """Return the terminals of each store that registers sign on as, in the order of their making."""
        found: dict[int, list[Terminal]] = {store: [] for store in stores}
        for row in await self._fetch("registers_of_stores", stores):
            found[row["store_id"]].append(_terminal(row))
        return found

    async def report_relays(self, reports: Sequence[RelayReport]) -> None:
        """Note what relays said of themselves, at most one report of each."""
        await self._fetch("report_relays", *zip(*reports, strict=True))

    async def add_conflicts(self, conflicts: Sequence[RelayConflict], now_ms: int) -> None:
        """Put on the operators' list what is not there yet."""
        await self._fetch("add_conflicts", *zip(*conflicts, strict=True), now_ms)

    async def listed_conflicts(self, requests: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], int]:
        """Return why those of the requests (id, terminal) were declined that stand on the operators' list."""
        rows = await self._fetch("listed_conflicts", *zip(*requests, strict=True))
        return {(row["request_id"], row["terminal_id"]): row["outcome"] for row in rows}

    async def programme(self) -> Programme:
        """Return a consistent snapshot of all networks and their rules."""
        rows = await self._fetch("programme")
        networks = {}
        for row in rows:
            if row["network_id"] is not None and row["network_id"] not in networks:
                rules = tuple(
                    _rules(r) for r in rows if r["network_id"] == row["network_id"] and r["valid_from_ms"] is not None
                )
                networks[row["network_id"]] = Network(
                    row["network_id"],
                    row["partner_id"],
                    row["name"],
                    row["currency"],
                    rules or (Rules(valid_from_ms=0),),
                )
        return Programme(rows[0]["version"], networks, BusinessDay(_zone(rows[0]["time_zone"])))

    async def _fetch(self, name: str, *args: Any) -> list[asyncpg.Record]:
        try:
            with self._pulse.call():
                if self._pool is None:
                    self._pool = await self._postgres.pool(
                        connections_max=self._connections_max,
                        timeout_s=self._timeout_s,
                        application_name="tillwire-reader",
                    )
                async with self._pool.acquire(timeout=self._timeout_s) as connection:
                    try:
                        return list(await connection.fetch(statement(name), *args))
                    except asyncio.CancelledError:
                        # Else the pool waits for PostgreSQL, and then says that this timed out.
                        connection.terminate()
                        raise
        except DOWN as error:
            raise JournalDown(str(error)) from error


def _terminal(row: asyncpg.Record) -> Terminal:
    known = {name: row[name] for name in _TERMINAL_NAMES}
    return Terminal(**{**known, "permitted": frozenset(row["permitted"])})


def _zone(name: str) -> ZoneInfo:
    """Return the time zone; one that nobody knows counts as no programme, so that workers go on with the one before."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise JournalDown(f"the programme's time zone {name!r} is unknown: set it by `tillwire timezone`") from error


_TERMINAL_NAMES: Iterable[str] = tuple(Terminal.__dataclass_fields__)
_RULE_NAMES: Iterable[str] = tuple(f for f in Rules.__dataclass_fields__ if f != "slip")


def _rules(row: asyncpg.Record) -> Rules:
    return Rules(**{name: row[name] for name in _RULE_NAMES}, slip=tuple(row["slip"]))
