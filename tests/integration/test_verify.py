"""`verify` finds a single altered row, whichever it is, and takes what a crash left behind for what it is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import asyncpg
import msgpack
import pytest
import redis.asyncio as redis

from ledger.audit import BadRow
from ledger.hot_store import HotStore, unpack
from ledger.journal.writer import Writer
from ledger.ledger import Ledger
from ledger.operations import Operation
from ledger.states import State, first_state
from ledger.verify import Verified, verify
from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey
from tests.rigs.ledger_rig import SEAL_KEY, Rig, token_of

ENTRY_COLUMNS = (
    "account_id", "seq", "link", "op", "request_id", "terminal_id", "network_id", "points", "held", "owed",
    "balance_after", "held_after", "owed_after", "spent", "earned", "refunded", "amount", "eligible", "target", "moves",
    "at_ms", "sale_ms", "rate_bp", "until_ms", "cards", "currency", "reference", "fingerprint", "answer", "seal",
)  # fmt: skip
ACCOUNT_COLUMNS = ("seq", "link", "balance", "held", "owed", "due_ms")
UNREAD = first_state(2, [(b"c" * 16, 1)])
STATE_FIELDS = ("account", "seq", "status", "balance", "held", "owed", "lots", "holds", "tokens", "ring", "forgot")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing under way here needs the time that `verify` leaves a running server."""
    monkeypatch.setattr("ledger.verify._SETTLE_S", 0.005)


async def a_little_of_everything(rig: Rig, ledger: Ledger) -> None:
    """Card 1 (account 2) holds and has a lot that expires, card 2 owes and has forgotten, card 3 was replaced."""
    day = ledger.today()
    await rig.do(ledger, Operation.EARN, 1, amount=40_000, active_day=day, expiry_day=day + 40)
    redeem = rig.submission(Operation.REDEEM, 1, points=100, amount=100, currency="EUR", reference="R1")
    await rig.ask(ledger, redeem)
    await rig.do(ledger, Operation.REFUND, 1, target=redeem.request_id, amount=40)
    await rig.do(ledger, Operation.HOLD, 1, points=300, amount=300, hold_ms=3_600_000)
    earn = await rig.give(ledger, 2, 1000)
    for _ in range(9):
        await rig.do(ledger, Operation.REDEEM, 2, points=100)
    await rig.do(ledger, Operation.REVERSE, 2, target=earn.request_id)
    await rig.do(ledger, Operation.REVERSE, 2, target=b"never came" + b"." * 6)
    await rig.give(ledger, 3, 1000)
    await rig.do(ledger, Operation.REPLACE, 3, new_token=token_of(77), new_token_kind=1, new_token_masked="…77")


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


@pytest.fixture(scope="module")
def journal_url(postgres_server: EmbeddedPostgres, valkey_server: EmbeddedValkey) -> Iterator[str]:
    """One journal for all that alter a row and put it back."""

    async def make() -> None:
        connection = await asyncpg.connect(postgres_server.url_of("postgres"))
        await connection.execute("CREATE DATABASE test_verify")
        await connection.close()
        rig = Rig(postgres_server.url_of("test_verify"), valkey_server.url_of(1))
        await rig.prepare(cards=5)
        async with rig.ledger() as ledger:
            await a_little_of_everything(rig, ledger)

    async def drop() -> None:
        connection = await asyncpg.connect(postgres_server.url_of("postgres"))
        await connection.execute("DROP DATABASE test_verify WITH (FORCE)")
        await connection.close()

    in_a_thread(make)
    yield postgres_server.url_of("test_verify")
    in_a_thread(drop)


@pytest.fixture
async def journal(journal_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(journal_url)
    yield connection
    await connection.close()
    assert (await prove(journal_url)).accounts == 5


async def prove(url: str) -> Verified:
    return await verify(url, None, SEAL_KEY, lambda _done, _total: None)


async def found(url: str) -> BadRow:
    with pytest.raises(BadRow) as bad:
        await prove(url)
    return bad.value


def altered(value: Any) -> Any:
    if value is None or isinstance(value, bytes):
        return (value or b"") + b"\x90"
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, 1, 2, 0, 0] if not value else [value[0] + 1, *value[1:]]
    return value + 1


def test_every_column_of_an_entry_is_tried(journal_url: str) -> None:
    async def columns() -> list[str]:
        connection = await asyncpg.connect(journal_url)
        try:
            rows = await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'entry'"
                " ORDER BY ordinal_position"
            )
        finally:
            await connection.close()
        return [row[0] for row in rows]

    assert tuple(in_a_thread(columns)) == ENTRY_COLUMNS


@pytest.mark.parametrize("column", ENTRY_COLUMNS)
async def test_an_altered_column_of_any_entry_is_found_and_named(
    journal: asyncpg.Connection, journal_url: str, column: str
) -> None:
    for row in await journal.fetch("SELECT * FROM entry ORDER BY account_id, seq"):
        value = altered(row[column])
        if column == "seq":
            value += 1000
        elif column == "account_id":
            value = 5
        change = f"UPDATE entry SET {column} = $1 WHERE link = $2"  # noqa: S608 - the names are ours
        link = value if column == "link" else row["link"]
        await journal.execute(change, value, row["link"])
        try:
            bad = await found(journal_url)
        finally:
            await journal.execute(change, row[column], link)
        assert bad.account in (row["account_id"], value)
        if column not in {"account_id", "seq"}:
            assert bad.seq == row["seq"]


async def test_sums_that_agree_with_each_other_do_not_deceive(journal: asyncpg.Connection, journal_url: str) -> None:
    """Somebody raises an entry in every column that its sums are made of: what chains the entries gives it away."""
    moves = await journal.fetchval("SELECT moves FROM entry WHERE seq = 1 AND account_id = 2")
    start, until, free, held = unpack(moves)
    await journal.execute(
        "UPDATE entry SET points = points + 5, earned = earned + 5, balance_after = balance_after + 5,"
        " moves = $1 WHERE seq = 1 AND account_id = 2",
        msgpack.packb([start, until, free + 5, held]),
    )
    try:
        bad = await found(journal_url)
    finally:
        await journal.execute(
            "UPDATE entry SET points = points - 5, earned = earned - 5, balance_after = balance_after - 5,"
            " moves = $1 WHERE seq = 1 AND account_id = 2",
            moves,
        )
    assert (bad.account, bad.seq) == (2, 1)
    assert "link" in str(bad)


@pytest.mark.parametrize("column", ["moves", "cards"])
async def test_the_same_values_in_other_bytes_are_found(
    journal: asyncpg.Connection, journal_url: str, column: str
) -> None:
    """The link covers what was packed, and not how: numbers and lists may be packed longer than they need to be."""
    for row in await journal.fetch(f"SELECT * FROM entry WHERE {column} IS NOT NULL ORDER BY account_id, seq"):  # noqa: S608
        packed = row[column]
        assert packed[0] & 0xF0 == 0x90
        longer = b"\xdc\x00" + bytes([packed[0] & 0x0F]) + packed[1:]
        assert unpack(longer) == unpack(packed)
        async with restored(journal, "entry"):
            await journal.execute(f"UPDATE entry SET {column} = $1 WHERE link = $2", longer, row["link"])  # noqa: S608
            bad = await found(journal_url)
        assert (bad.account, bad.seq) == (row["account_id"], row["seq"])


async def test_a_missing_entry_is_found_wherever_it_was(journal: asyncpg.Connection, journal_url: str) -> None:
    for row in await journal.fetch("SELECT * FROM entry ORDER BY account_id, seq"):
        async with restored(journal, "entry"):
            await journal.execute("DELETE FROM entry WHERE account_id = $1 AND seq = $2", row["account_id"], row["seq"])
            bad = await found(journal_url)
        assert bad.account == row["account_id"]
        assert bad.seq in (row["seq"] - 1, row["seq"] + 1)


async def test_two_swapped_entries_are_found(journal: asyncpg.Connection, journal_url: str) -> None:
    async with restored(journal, "entry"):
        await journal.execute("UPDATE entry SET seq = 9 - seq + 1000 WHERE account_id = 3 AND seq IN (4, 5)")
        await journal.execute("UPDATE entry SET seq = seq - 1000 WHERE seq > 1000")
        bad = await found(journal_url)
    assert (bad.account, bad.seq) == (3, 4)


async def test_entries_without_an_account_are_found(journal: asyncpg.Connection, journal_url: str) -> None:
    for account in (2, 77):
        async with restored(journal, "entry"):
            await journal.execute("UPDATE entry SET account_id = $1 + 100 WHERE account_id = 2", account)
            bad = await found(journal_url)
        assert bad.account in (2, account + 100)


@pytest.mark.parametrize("column", ACCOUNT_COLUMNS)
async def test_an_altered_column_of_an_account_is_found_and_named(
    journal: asyncpg.Connection, journal_url: str, column: str
) -> None:
    # The database itself refuses to hold more than there is.
    accounts = (2, 3, 4) if column != "held" else (4,)
    for account in accounts:
        async with restored(journal, "account"):
            by = 5 * 86_400_000 if column == "due_ms" else 1
            await journal.execute(
                f"UPDATE account SET {column} = coalesce({column}, 0) + $2 WHERE account_id = $1",  # noqa: S608
                account, by,
            )  # fmt: skip
            bad = await found(journal_url)
        assert bad.account == account
        assert column in str(bad)


@pytest.mark.parametrize("field", STATE_FIELDS)
async def test_an_altered_state_is_found_and_named(journal: asyncpg.Connection, journal_url: str, field: str) -> None:
    for account in (2, 3, 4):
        state = State.unpacked(await journal.fetchval("SELECT state FROM account WHERE account_id = $1", account))
        value = getattr(state, field)
        if value in ([], {}):
            continue
        setattr(state, field, wrong(field, value))
        async with restored(journal, "account"):
            await journal.execute("UPDATE account SET state = $2 WHERE account_id = $1", account, state.packed())
            bad = await found(journal_url)
        assert bad.account == account


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE card SET status = 2 WHERE account_id = 1",
        "UPDATE card SET account_id = 2 WHERE account_id = 1",
        "UPDATE card SET token = decode(repeat('00', 16), 'hex') WHERE account_id = 1",
        "DELETE FROM card WHERE account_id = 1",
        "INSERT INTO card SELECT decode(repeat('00', 16), 'hex'), 1, 1, 'x', 1",
    ],
)
async def test_an_altered_card_is_found(journal: asyncpg.Connection, journal_url: str, change: str) -> None:
    async with restored(journal, "card"):
        await journal.execute(change)
        bad = await found(journal_url)
    assert bad.account == 1
    assert "cards" in str(bad)


@pytest.mark.parametrize("state", [b"", b"\0", b"\3" * 60, UNREAD + b"\x01", UNREAD[:-1], UNREAD + b"\xc1"])
async def test_a_state_that_is_none_is_found(journal: asyncpg.Connection, journal_url: str, state: bytes) -> None:
    async with restored(journal, "account"):
        await journal.execute("UPDATE account SET state = $1 WHERE account_id = 2", state)
        bad = await found(journal_url)
    assert bad.account == 2
    assert "state" in str(bad)


async def test_another_seal_key_is_found(journal_url: str) -> None:
    with pytest.raises(BadRow, match="seal"):
        await verify(journal_url, None, b"other" * 6, lambda _done, _total: None)


class restored:  # noqa: N801 - reads as what it does
    """Puts a table back to what it was."""

    def __init__(self, connection: asyncpg.Connection, table: str) -> None:
        self._connection, self._table = connection, table

    async def __aenter__(self) -> None:
        await self._connection.execute(f"CREATE TEMP TABLE kept AS TABLE {self._table}")
        # Nothing may cascade from rows that come back in a moment.
        await self._connection.execute("SET session_replication_role = replica")

    async def __aexit__(self, *_: object) -> None:
        await self._connection.execute(f"DELETE FROM {self._table}")  # noqa: S608 - the names are ours
        await self._connection.execute(f"INSERT INTO {self._table} SELECT * FROM kept")  # noqa: S608
        await self._connection.execute("DROP TABLE kept")
        await self._connection.execute("SET session_replication_role = DEFAULT")


# ---- with Redis


async def hot(rig: Rig) -> Verified:
    hot_store = HotStore.at(rig.redis_url, timeout_s=2.0)
    try:
        return await verify(rig.postgres_url, hot_store, SEAL_KEY, lambda _done, _total: None)
    finally:
        await hot_store.close()


async def test_any_altered_field_of_a_state_in_redis_is_found(rig: Rig) -> None:
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        await a_little_of_everything(rig, ledger)
        assert (await hot(rig)).hot_accounts == 3
        for account in (2, 3, 4):
            key = f"tillwire:{{0}}:{account}"
            value = await client.get(key)
            state = State.unpacked(value[10:])
            for field in fields(State):
                altered = replace(state, **{field.name: wrong(field.name, getattr(state, field.name))})
                await client.set(key, value[:10] + altered.packed())
                with pytest.raises(BadRow) as bad:
                    await hot(rig)
                assert bad.value.account == account
            await client.set(key, value[:9] + bytes([value[9] ^ 1]) + value[10:])
            with pytest.raises(BadRow, match="link"):
                await hot(rig)
            await client.set(key, value)


ONE: dict[str, Any] = {"lots": [(1, 2, 3, 0)], "holds": [[b"?" * 16, 1, 1, [], 1, 1]], "ring": [b"?" * 16]}


def wrong(field: str, value: Any) -> Any:
    """The value of a field of a state, altered: one thing less, or one where there is none."""
    if isinstance(value, int):
        return value + 1
    return dict([*value.items()][1:]) if isinstance(value, dict) else value[1:] if value else ONE[field]


async def test_a_state_set_back_in_redis_is_found(rig: Rig) -> None:
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        await rig.give(ledger, 1, 1000)
        old = await client.get("tillwire:{0}:2")
        await rig.do(ledger, Operation.REDEEM, 1, points=900)
        new = await client.get("tillwire:{0}:2")
        await client.set("tillwire:{0}:2", old)
        with pytest.raises(BadRow, match="behind"):
            await hot(rig)
        await client.set("tillwire:{0}:2", new)


async def test_a_redis_that_was_flushed_is_no_finding(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
    async with redis.Redis.from_url(rig.redis_url) as client:
        await client.flushall()
    assert (await hot(rig)).hot_accounts == 0


async def test_what_a_crash_left_in_the_outbox_is_no_finding(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker died between decision and commit; whoever verifies then must not call the books wrong."""
    reached = asyncio.Event()
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)

        async def never(*_: object) -> set[int]:
            reached.set()
            await asyncio.Event().wait()
            return set()

        with monkeypatch.context() as patched:
            patched.setattr(Writer, "commit", never)
            rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=100))
            await reached.wait()
            await ledger.stop(0.0)
    assert (await hot(rig)).balance == 1000
    async with redis.Redis.from_url(rig.redis_url) as client:
        value = await client.get("tillwire:{0}:2")
        await client.set("tillwire:{0}:2", value[:9] + bytes([value[9] ^ 1]) + value[10:])
        with pytest.raises(BadRow, match="a history that the journal does not have"):
            await hot(rig)
        await client.set("tillwire:{0}:2", value)
    async with rig.ledger() as ledger:
        assert await rig.available(ledger, 1) == 900
    assert (await hot(rig)).balance == 900


async def test_verifying_beside_a_running_server_finds_nothing(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        load = asyncio.gather(*(rig.do(ledger, Operation.EARN, i % 10, amount=20_000) for i in range(600)))
        while not load.done():
            await hot(rig)
        await load
        assert (await hot(rig)).entries == 600
