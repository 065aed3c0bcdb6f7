"""The model of PostgreSQL answers as a real one does: the same calls on both, mostly by the ledger's writer and reader.

What is compared is what came back, row for row, and by which exception and constraint a call was refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any, cast

import asyncpg
import pytest

from ledger.card_tokens import token_hash
from ledger.clock import SystemClock
from ledger.hot_store import pack
from ledger.journal import migrate
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres, transaction
from ledger.journal.pulse import Pulse
from ledger.journal.reader import Reader
from ledger.journal.statements import statement
from ledger.journal.writer import Batch, CardChange, Fenced, JournalDown, Row, Writer
from ledger.programme import Rules
from tests.simulator.loop import Loop, Process
from tests.simulator.postgres_client import SimulatedPostgres
from tests.simulator.postgres_model import PostgresModel
from tests.simulator.postgres_tables import Tables
from tests.simulator.programme import SECRETS, card, tables

Told = list[Any]
EARN, REDEEM, REVERSE, HOLD, CAPTURE = 21, 17, 24, 18, 19


def _database() -> Tables:
    rules = Rules(valid_from_ms=0, earn_rate_bp=500, holds_max=3, slip=("{spent}", "{available}"))
    return tables(rules, Rules(valid_from_ms=0), tills=2, active=4, issued=2, partitions=2)


def _token(number: int) -> bytes:
    token = card(number).token
    assert token is not None
    return token_hash(token, SECRETS.token_key)


def _request(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def _account(account: int, after: tuple[int, int], now: tuple[int, int], balance: int = 0, held: int = 0) -> Row:
    """Return a change; the balances are those of its last entry."""
    return (account, *after, *now, balance, held, 0, 5_000 + account if held else 0, b"state of %d" % now[0])


def _with_heads(accounts: list[Row], entries: list[Row]) -> list[Row]:
    """Return the entries as the type journal_row has them."""
    changes = {(row[0], row[3]): row for row in accounts}
    rows = []
    for entry in entries:
        change = changes.get(entry[:2])
        if change is None:
            rows.append((*entry, None, None, None, None))
        else:
            rows.append((*entry[:10], *change[5:8], *entry[13:], *change[1:3], change[8] or None, change[9]))
    return rows


def _entry(
    account: int,
    seq: int,
    link: int,
    op: int,
    name: str | None,
    target: str | None = None,
    moves: bytes = b"\x90",
    cards: bytes | None = None,
) -> Row:
    request_id = None if name is None else _request(name)
    return (
        account, seq, link, op, request_id, 1, 1, 5, 0, 0, 5, 0, 0, 0, 5, 0, 100, -1,
        None if target is None else _request(target), moves, 1_000 + seq, 999, 500, 7_000 if op == HOLD else 0,
        pack([b"t", 1]) if op == HOLD else cards, "EUR", "reference", b"f" * 8, b"answer", b"s" * 16,
    )  # fmt: skip


def _batch(mark: int, accounts: list[Row], entries: list[Row], **more: Any) -> Batch:
    return Batch(mark, {row[0]: row for row in accounts}, _with_heads(accounts, entries), **more)


async def _forget(accounts: set[int]) -> None:
    del accounts


async def _caught(work: Awaitable[Any]) -> Any:
    """Return what came back, or how it was refused."""
    try:
        return await work
    except (Fenced, JournalDown) as error:
        return type(error).__name__
    except asyncpg.PostgresError as error:
        return type(error).__name__, error.constraint_name
    except asyncpg.InterfaceError as error:
        return type(error).__name__


def _plain(found: Any) -> Any:
    """Return rows as tuples and mappings sorted, so that both sides compare."""
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in sorted(found.items())}
    if isinstance(found, list | tuple):
        return [_plain(item) for item in found]
    return tuple(found.values()) if hasattr(found, "keys") else found


def _reader(postgres: Postgres) -> Reader:
    return Reader(postgres, Pulse(SystemClock(), silence_s=60.0), connections_max=2, timeout_s=10.0)


async def _writer(postgres: Postgres, partition: int, *, timeout_s: float = 10.0) -> Writer | None:
    return await Writer.try_open(postgres, partition, timeout_s=timeout_s, idle_timeout_s=60.0)


async def _journaling(postgres: Postgres) -> Told:
    """Owners come and go, journal, are vetoed and fenced; readers look at it."""
    told: Told = []
    reader = _reader(postgres)
    first = await _writer(postgres, 0)
    assert first is not None
    told += [await _writer(postgres, 0), await first.claim("worker-0")]
    told.append(await first.commit(_batch(1, [_account(2, (0, 0), (2, 20), 10)], [
        _entry(2, 1, 10, EARN, "earn"), _entry(2, 2, 20, REDEEM, "redeem", moves=pack([1, 2, -3, 4])),
    ]), _forget))  # fmt: skip
    # A predecessor that is not the head; an id that is journaled; one twice in a batch; one of each kind at once.
    told.append(await first.commit(_batch(2, [_account(2, (1, 10), (2, 30))], [_entry(2, 2, 30, EARN, "x")]), _forget))
    told.append(await first.commit(_batch(3, [
        _account(2, (2, 20), (3, 31), 10), _account(4, (0, 0), (1, 41), 10),
    ], [_entry(2, 3, 31, EARN, "earn"), _entry(4, 1, 41, EARN, "four")]), _forget))  # fmt: skip
    told.append(await first.commit(_batch(4, [
        _account(2, (2, 20), (3, 32), 10), _account(4, (1, 41), (2, 42), 10),
    ], [_entry(2, 3, 32, EARN, "both"), _entry(4, 2, 42, EARN, "both")]), _forget))  # fmt: skip
    told.append(await first.commit(_batch(5, [
        _account(2, (3, 32), (6, 35), 10, 5),
    ], [_entry(2, 4, 33, HOLD, "hold"), _entry(2, 5, 34, CAPTURE, "capture", "hold"),
        _entry(2, 6, 35, REVERSE, "reverse", "redeem")]), _forget))  # fmt: skip
    # Cards: one comes into use, a pristine one moves, one that is in use elsewhere cannot.
    told.append(await first.commit(_batch(6, [_account(2, (6, 35), (7, 36), 10)], [_entry(2, 7, 36, 34, "replace")],
        cards=[CardChange(_token(1), 2, 3, 5, "old"), CardChange(_token(4), 2, 1, 5, "new")],
        terminal_days=[(2, 1, 100, 7), (2, 1, 100, 8), (2, 2, 100, 1)]), _forget))  # fmt: skip
    taken = [CardChange(_token(4), 4, 1, 5, "new"), CardChange(b"unknown token 16", 4, 1, 5, "fresh")]
    told.append(await first.commit(
        _batch(7, [_account(4, (1, 41), (2, 43), 10)], [_entry(4, 2, 43, 34, "taken")], cards=taken), _forget
    ))  # fmt: skip
    too_much = _batch(8, [_account(4, (1, 41), (2, 44), 1, 2)], [_entry(4, 2, 44, EARN, "held")])
    told.append(await _caught(first.commit(too_much, _forget)))
    told += [await first.wanted_by(), await reader.ask_for_partition(0, "worker-0"), await first.wanted_by()]
    told += [
        await reader.ask_for_partition(0, "worker-9"),
        await first.wanted_by(),
        (await reader.partition_owners())[1],
    ]
    await first.close()
    second = await _writer(postgres, 0)
    assert second is not None
    claim = await second.claim("worker-1")
    told.append(claim)
    told.append(await second.void_generation() != claim.generation)
    told.append(
        await second.commit(_batch(9, [_account(4, (1, 41), (2, 45), 10)], [_entry(4, 2, 45, EARN, "on")]), _forget)
    )
    told += [await reader.heads([2, 4, 99]), await reader.stored([_request(n) for n in ("earn", "reverse", "nothing")])]
    told.append(await reader.families([_request(n) for n in ("earn", "redeem", "hold", "capture", "reverse", "no")]))
    told += [await reader.cards([_token(n) for n in range(6)]), await reader.cards([b"unknown token 16"])]
    told += [await reader.due_accounts(99_999, 2, 0, 10), await reader.due_accounts(1, 2, 0, 10)]
    told += [await reader.terminals(["till-0", "nobody"]), await reader.greetings([1, 2])]
    told += [await reader.terminal_spent(n, 100) for n in (1, 2, 3)]
    programme = await reader.programme()
    told += [programme.version > 0, programme.networks, await ensure_partitions(postgres, 2)]
    await second.close()
    await reader.close()
    return told


async def _waiting(postgres: Postgres) -> Told:
    """Transactions wait for each other, find what the other one has left, and are undone when both wait."""
    told: Told = []
    one, two = [await postgres.connect(timeout_s=10.0, settings={}) for _ in range(2)]
    own, commit = statement("own_partition"), statement("commit")
    async with transaction(one):
        await one.fetchrow(own, 0, "one")
        late = asyncio.ensure_future(two.fetchrow(commit, 5, 0, 0, []))
        await asyncio.sleep(0.1)
        told.append(late.done())
    told.append(await late)
    told.append(await two.fetchrow(commit, 6, 0, 1, []))

    async def both(connection: Any, first: int, second: int) -> Any:
        async with transaction(connection):
            await connection.fetchrow(own, first, "x")
            await asyncio.sleep(0.1)
            return await connection.fetchrow(own, second, "x")

    ended = await asyncio.gather(both(one, 0, 1), both(two, 1, 0), return_exceptions=True)
    told.append(sorted(type(each).__name__ for each in ended if isinstance(each, Exception)))
    # A failed transaction takes nothing more, and has left nothing.
    try:
        async with transaction(one):
            await one.fetchrow(own, 1, "lost")
            rows = _with_heads([_account(3, (0, 0), (0, 1))], [_entry(3, 0, 1, EARN, "zero")])
            told.append(await _caught(one.fetchrow(commit, 1, 0, 2, rows)))
            told.append(await _caught(one.fetchrow(own, 1, "lost")))
            raise KeyError  # noqa: TRY301 - undoes the transaction
    except KeyError:
        told.append(await one.fetchval("SELECT wanted_by FROM partition WHERE partition_id = $1", 1))
    locker = "SELECT pg_try_advisory_lock($1, $2)"
    told += [await one.fetchval(locker, 1, 2), await one.fetchval(locker, 1, 2), await two.fetchval(locker, 1, 2)]
    await one.close()
    told += [await two.fetchval(locker, 1, 2), one.is_closed(), await _caught(one.fetchval(locker, 1, 2))]
    two.terminate()
    return told


async def _timed_out(postgres: Postgres) -> Told:
    """Sessions end for idleness, statements for taking too long, and either way the ledger hears that it is down."""
    told: Told = []
    blocker = await postgres.connect(timeout_s=10.0, settings={})
    async with transaction(blocker):
        await blocker.fetchrow(statement("own_partition"), 1, "blocker")
        hasty = await postgres.connect(timeout_s=10.0, settings={"statement_timeout": "200"})
        told.append(await _caught(hasty.fetchrow(statement("own_partition"), 1, "hasty")))
        told.append(await hasty.fetchval("SELECT wanted_by FROM partition WHERE partition_id = $1", 1))
        try:
            await hasty.fetchrow(statement("own_partition"), 1, "hasty", timeout=0.05)
        except TimeoutError:
            told.append("client gave up")
        writer = await _writer(postgres, 1, timeout_s=0.3)
        assert writer is not None
        told.append(await _caught(writer.claim("late")))
        writer.terminate()
        hasty.terminate()
    idle = await Writer.try_open(postgres, 0, timeout_s=10.0, idle_timeout_s=0.3)
    assert idle is not None
    await asyncio.sleep(1.0)
    told.append(await _caught(idle.claim("idle")))
    successor = await _writer(postgres, 0)
    told.append(successor is not None)
    for each in (blocker, successor):
        if each is not None:
            each.terminate()
    return told


async def _fill(url: str, rows: dict[str, dict[Any, Any]]) -> None:
    """Make a real database hold what the model's does."""
    await migrate.run(url)
    await ensure_partitions(Postgres(url), len(rows["partition"]))
    connection = await asyncpg.connect(url)

    async def copy(table: str, records: Iterable[dict[str, Any]]) -> None:
        made = list(records)
        await connection.copy_records_to_table(
            table, columns=list(made[0]), records=[tuple(each.values()) for each in made]
        )

    networks = rows["network"]
    try:
        await copy("partner", ({"partner_id": n, "name": f"Partner {n}"} for n in networks))
        await copy("network", ({"network_id": n, **network} for n, network in networks.items()))
        await copy("store", ({"store_id": n, "network_id": n, "name": "Store"} for n in networks))
        await copy("rules", ({"network_id": n, **rules} for n in networks for rules in rows["rules"][n]))
        await copy("terminal", ({k: v for k, v in t.items() if k != "network_id"} for t in rows["terminal"].values()))
        await copy("account", rows["account"].values())
        await copy("card", rows["card"].values())
    finally:
        await connection.close()


def _on_the_model(play: Callable[[Postgres], Awaitable[Told]]) -> Told:
    loop = Loop(Random(1), seconds_max=60.0)  # noqa: S311 - it must be repeatable, not secret
    server = PostgresModel(loop, Random(2), Counter(), _database())  # noqa: S311

    async def world() -> Told:
        process = Process(loop, "client")
        return cast("Told", await process.start(play(cast("Any", SimulatedPostgres(server))), "play"))

    told = loop.run(world())
    loop.end()
    assert not loop.failures
    return told


async def _merging(postgres: Postgres) -> Told:
    """An account is closed and taken in: its cards move then, to that account alone, and it is taken in once."""
    told: Told = []
    reader = _reader(postgres)
    writer = await _writer(postgres, 0)
    assert writer is not None
    await writer.claim("worker-0")
    given = [CardChange(_token(1), 2, 1, 5, "given")]
    told.append(await writer.commit(_batch(1, [_account(2, (0, 0), (2, 22))], [
        _entry(2, 1, 21, EARN, "earn"), _entry(2, 2, 22, 47, "out"),
    ], cards=given), _forget))  # fmt: skip
    told += [await reader.merged_into([2, 4]), await reader.cards([_token(1)])]
    early = [CardChange(_token(1), 4, 1, 5, "early")]
    told.append(
        await writer.commit(_batch(2, [_account(4, (0, 0), (1, 41))], [_entry(4, 1, 41, EARN, "four")], cards=early),
                            _forget)
    )  # fmt: skip
    taken = [CardChange(_token(1), 4, 1, 5, "taken")]
    told.append(
        await writer.commit(_batch(3, [_account(4, (0, 0), (1, 42))], [_entry(4, 1, 42, 48, "in", "out")], cards=taken),
                            _forget)
    )  # fmt: skip
    # Once more, by another account and by the same one; and another one wants a card of the closed account.
    told.append(
        await writer.commit(_batch(4, [_account(6, (0, 0), (1, 61))], [_entry(6, 1, 61, 48, "again", "out")]), _forget)
    )
    told.append(
        await writer.commit(_batch(5, [_account(4, (1, 42), (2, 43))], [_entry(4, 2, 43, 48, "same", "out")]), _forget)
    )
    told.append(await writer.commit(_batch(6, [_account(4, (1, 42), (2, 44)), _account(6, (0, 0), (1, 62))], [
        _entry(4, 2, 44, REVERSE, "undo", "earn"), _entry(6, 1, 62, 47, "out 6"),
    ]), _forget))  # fmt: skip
    told.append(await writer.commit(_batch(7, [_account(4, (2, 44), (3, 45))], [
        _entry(4, 3, 45, 47, "out 4"),
    ]), _forget))  # fmt: skip
    told += [await reader.families([_request("earn"), _request("out")]), await reader.cards([_token(1)])]
    told += [await reader.merged_into([2, 4, 6, 99]), await reader.heads([2, 4, 6])]
    await writer.close()
    await reader.close()
    return told


async def _unlinking(postgres: Postgres) -> Told:
    """A card is taken from its account; its row is gone, and it may be anybody's."""
    told: Told = []
    reader = _reader(postgres)
    writer = await _writer(postgres, 0)
    assert writer is not None
    await writer.claim("worker-0")
    gone = [CardChange(_token(1), 2, 4, 0, "")]
    cards = pack([_token(1), 4])

    async def commit(
        mark: int, account: int, seq: int, op: int, named: str, cards: list[CardChange], said: Any
    ) -> None:
        before = (seq - 1, 10 * account + seq - 1 if seq > 1 else 0)
        now = (seq, 10 * account + seq)
        batch = _batch(
            mark, [_account(account, before, now)], [_entry(account, *now, op, named, cards=said)], cards=cards
        )
        told.append(await writer.commit(batch, _forget))

    await commit(1, 2, 1, EARN, "earn", [], None)
    await commit(2, 4, 1, 51, "not mine", [CardChange(_token(1), 4, 4, 0, "")], cards)
    told.append(await reader.cards([_token(1)]))
    await commit(3, 2, 2, 51, "unlink", gone, cards)
    told += [await reader.cards([_token(1)]), await reader.former_homes([(_token(1), _request("earn"))])]
    await commit(4, 2, 3, 51, "again", gone, cards)
    await commit(5, 4, 1, 46, "link", [CardChange(_token(1), 4, 1, 5, "new")], pack([_token(1), 1]))
    told.append(await reader.cards([_token(n) for n in range(6)]))
    asked = [(_token(1), _request(name)) for name in ("earn", "link", "nothing")] + [(_token(2), _request("earn"))]
    told.append(await reader.former_homes(asked))
    told.append(await reader.former_homes([]))
    await writer.close()
    await reader.close()
    return told


@pytest.mark.parametrize("play", [_journaling, _waiting, _timed_out, _merging, _unlinking])
async def test_the_model_does_what_postgresql_does(
    play: Callable[[Postgres], Awaitable[Told]], postgres_url: str
) -> None:
    await _fill(postgres_url, _database().rows)
    real = _plain(await play(Postgres(postgres_url)))
    model = _plain(await asyncio.to_thread(_on_the_model, play))
    assert len(real) > 5
    assert model == real
