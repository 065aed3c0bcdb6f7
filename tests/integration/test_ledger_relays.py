"""What the ledger knows of relays: who they are, whose terminals are behind them, what they say and what went wrong."""

import os

import asyncpg
import pytest

from ledger.journal.onboarding import Onboarding
from ledger.journal.writer import JournalDown
from ledger.operations import Operation
from ledger.registry import relays as registered
from ledger.relays import RelayConflict, RelayReport
from protocol.scram import Credentials
from server.engines.postgres import EmbeddedPostgres
from tests.rigs.ledger_rig import Rig, token_of


async def add_relay(rig: Rig, store_id: int, code: str, allowance_points: int = 0) -> int:
    async with rig.database() as connection, connection.transaction():
        key = os.urandom(32)
        terminal_id = await Onboarding(connection).terminal(store_id, code, [18, 20], Credentials(key, 4096, key, key))
        assert await registered.add(connection, terminal_id, allowance_points, 3_600_000) == 1
    return terminal_id


async def store_of(rig: Rig) -> int:
    async with rig.database() as connection:
        return int(await connection.fetchval("SELECT store_id FROM terminal WHERE terminal_id = $1", rig.terminal_id))


async def version(rig: Rig) -> int:
    async with rig.database() as connection:
        return int(await connection.fetchval("SELECT version FROM programme"))


def conflict(rig: Rig, relay_id: int, card: int | None = 0, outcome: int = 105) -> RelayConflict:
    token = None if card is None else token_of(card)
    return RelayConflict(
        os.urandom(16), relay_id, rig.terminal_id, token, int(Operation.EARN), outcome, "…1", 0, 1000, "EUR", "r", 7
    )


async def test_a_relay_is_known_by_its_code_and_no_register(rig: Rig) -> None:
    store_id = await store_of(rig)
    relay_id = await add_relay(rig, store_id, "relay-1", 500)
    async with rig.ledger() as ledger:
        found = await ledger.relays(["relay-1", "till-1", "nobody"])
        assert list(found) == ["relay-1"]
        relay = found["relay-1"]
        assert (relay.terminal.terminal_id, relay.terminal.store_id) == (relay_id, store_id)
        assert relay.terminal.permitted == {18, 20}
        assert (relay.generation, relay.allowance_points, relay.allowance_ms) == (1, 500, 3_600_000)
        registers = await ledger.registers([store_id, 999])
        assert {store: [each.code for each in of] for store, of in registers.items()} == {store_id: ["till-1"], 999: []}
        assert registers[store_id][0] == (await ledger.terminals(["till-1"]))["till-1"]


async def test_a_suspended_relay_says_so_and_a_rotated_one_has_the_next_generation(rig: Rig) -> None:
    relay_id = await add_relay(rig, await store_of(rig), "relay-1")
    async with rig.ledger() as ledger:
        assert (await ledger.relays(["relay-1"]))["relay-1"].terminal.active
        async with rig.database() as connection:
            await connection.execute("UPDATE store SET active = false")
            assert await registered.rotate(connection, relay_id) == 2
            assert await registered.rotate(connection, rig.terminal_id) is None
        relay = (await ledger.relays(["relay-1"]))["relay-1"]
        assert (relay.terminal.active, relay.generation) == (False, 2)


async def test_what_changes_a_roster_changes_the_version_of_the_programme_and_a_report_does_not(rig: Rig) -> None:
    store_id = await store_of(rig)
    seen = [await version(rig)]
    async with rig.database() as connection:

        async def add_terminal(code: str) -> None:
            await Onboarding(connection).terminal(
                store_id, code, [17], Credentials(b"salt", 4096, b"stored", b"server")
            )
            seen.append(await version(rig))

        await add_terminal("till-2")
        assert seen[-1] == seen[-2], "a store without a relay has no roster"
        relay_id = await add_relay(rig, store_id, "relay-1")
        seen.append(await version(rig))
        await add_terminal("till-3")
        assert await registered.set_allowance(connection, relay_id, 100, 1_000)
        seen.append(await version(rig))
        await registered.rotate(connection, relay_id)
        seen.append(await version(rig))
        assert seen[1:] == sorted(set(seen[1:]))
    async with rig.ledger() as ledger:
        await ledger.report_relays([RelayReport(relay_id, "s", 1, 0, None, None)])
    assert await version(rig) == seen[-1]


async def test_the_newest_report_of_a_relay_is_kept(rig: Rig) -> None:
    store_id = await store_of(rig)
    one, two = await add_relay(rig, store_id, "relay-1"), await add_relay(rig, store_id, "relay-2")
    async with rig.ledger() as ledger:
        await ledger.report_relays([RelayReport(one, "a", 10, 3, 5, 4), RelayReport(two, "b", 11, 0, None, None)])
        await ledger.report_relays([RelayReport(one, "old", 9, 9, 9, 9)])
        await ledger.report_relays([])
    async with rig.database() as connection:
        rows = await connection.fetch(
            "SELECT software, heard_ms, queued, oldest_ms, offline_since_ms FROM relay ORDER BY terminal_id"
        )
    assert [tuple(row) for row in rows] == [("a", 10, 3, 5, 4), ("b", 11, 0, None, None)]


async def test_a_conflict_is_listed_once_with_the_account_of_its_card(rig: Rig) -> None:
    relay_id = await add_relay(rig, await store_of(rig), "relay-1")
    first, unknown = conflict(rig, relay_id), conflict(rig, relay_id, 77)
    unreadable = conflict(rig, relay_id, None)
    async with rig.ledger() as ledger:
        await ledger.add_conflicts([first, unknown, unreadable])
        await ledger.add_conflicts([first._replace(outcome=113), first])
        await ledger.add_conflicts([])
        mine = first.request_id, first.terminal_id
        assert await ledger.listed_conflicts([mine, (bytes(16), first.terminal_id), (mine[0], -1)]) == {mine: 105}
    async with rig.database() as connection:
        rows = await connection.fetch("SELECT * FROM office.conflict ORDER BY conflict_id")
        account = await connection.fetchval("SELECT account_id FROM card WHERE token = $1", token_of(0))
    assert [row["request_id"] for row in rows] == [first.request_id, unknown.request_id, unreadable.request_id]
    assert [row["account_id"] for row in rows] == [account, None, None]
    assert (rows[0]["outcome"], rows[0]["sale_ms"], rows[0]["settled_ms"]) == (105, 7, None)


async def test_without_postgresql_nothing_of_it_is_pretended(rig: Rig, own_postgres: EmbeddedPostgres) -> None:
    async with asyncpg.create_pool(own_postgres.url_of("postgres"), min_size=1) as pool:
        await pool.execute("CREATE DATABASE migrated")
    fragile = Rig(own_postgres.url_of("migrated"), rig.redis_url)
    await fragile.prepare(cards=1)
    relay_id = await add_relay(fragile, await store_of(fragile), "relay-1")
    async with fragile.ledger() as ledger:
        own_postgres.kill()
        for call in (
            ledger.relays(["relay-1"]),
            ledger.registers([1]),
            ledger.report_relays([RelayReport(relay_id, "", 1, 0, None, None)]),
            ledger.add_conflicts([conflict(fragile, relay_id)]),
            ledger.listed_conflicts([(b"i" * 16, 1)]),
        ):
            with pytest.raises(JournalDown):
                await call
