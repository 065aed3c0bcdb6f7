"""Whatever stands in a file: each row and each point is imported, there already, or rejected, and the books agree."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.journal import migrate
from ledger.journal.moving import Standing
from ledger.verify import verify
from server.engines.postgres import EmbeddedPostgres
from server.moving import maker
from server.moving.columns import Kind, mapped
from server.moving.importing import _points_in
from server.moving.reading import RawRow
from server.moving.report import Tally
from tests.rigs.moving_rig import SECRETS, ean13, in_a_thread

HEADERS = {
    Kind.CARDS: ["id", "number", "status"],
    Kind.BALANCES: ["id", "number", "points", "expires", "valid from", "lot"],
}
IDS = st.sampled_from(["", "1", "2", "3", " 3 ", "4.5", "x" * 200])
NUMBERS = st.sampled_from(["", *map(ean13, range(5)), "+4915100000001", "2000000000016", "4000000000000002", "soon"])
DAYS = st.sampled_from(["", "", "2099-01-01", "31.12.2099", "2098-06-01", "2001-01-01", "1/2/2099", "never"])
POINTS = st.one_of(
    st.integers(0, 10**6).map(lambda minor: f"{minor // 100}.{minor % 100:02}"),
    st.sampled_from(["", "0", "-1", "many", "1,5", "1,234", 12.5, 0.07, 1e20, "99999999999", "1e3"]),
)
CARD_ROWS = st.tuples(IDS, NUMBERS, st.sampled_from(["", "active", "issued", "blocked", "replaced", "burnt"]))
LOT_ROWS = st.tuples(IDS, NUMBERS, POINTS, DAYS, DAYS, st.sampled_from(["", "", "a", "b"]))
FILES = st.lists(
    st.one_of(
        st.tuples(st.just(Kind.CARDS), st.lists(CARD_ROWS, max_size=6)),
        st.tuples(st.just(Kind.BALANCES), st.lists(LOT_ROWS, max_size=8)),
    ),
    max_size=4,
)
TABLES = "account, card, entry, personal.member, personal.lookup"


@pytest.fixture(scope="module")
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    async def administer(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server.url_of("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    in_a_thread(lambda: administer("CREATE DATABASE test_import_totals"))
    url = postgres_server.url_of("test_import_totals")
    in_a_thread(lambda: migrate.run(url))
    yield url
    in_a_thread(lambda: administer("DROP DATABASE test_import_totals WITH (FORCE)"))


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def taken(url: str, kind: Kind, rows: list[tuple[object, ...]], folder: Path, *, parts: int) -> tuple[Tally, int]:
    columns = mapped(kind, HEADERS[kind], None)
    standing = Standing(0, "UTC", 0, alone=True)
    order = maker.Order(
        url, columns, "", standing, False, maker.now_ms(), SECRETS.token_key, SECRETS.seal_key, SECRETS.personal_key
    )
    made = maker.Maker(order)
    raw = [RawRow(line, row) for line, row in enumerate(rows, start=2)]
    whole = Tally()
    for start in range(0, len(raw), parts):
        tally = made.make(raw[start : start + parts])
        for name in ("imported", "already", "points_imported", "points_already", "points_rejected"):
            setattr(whole, name, getattr(whole, name) + getattr(tally, name))
        whole.rejects += tally.rejects
    counted = made.count()
    assert counted.agrees
    assert counted.points_found == whole.points_imported + whole.points_already
    made.close()
    return whole, _points_in(raw, columns)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, parts=st.integers(1, 8))
def test_sums_are_equal_whatever_stands_in_the_files(
    database_url: str, tmp_path: Path, files: list[tuple[Kind, list[tuple[object, ...]]]], parts: int
) -> None:
    in_a_thread(lambda: query(database_url, f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
    journaled = 0
    for kind, rows in files:
        tally, points_in_file = taken(database_url, kind, rows, tmp_path, parts=parts)
        assert tally.imported + tally.already + len(tally.rejects) == len(rows)
        assert tally.points_imported + tally.points_already + tally.points_rejected == points_in_file
        journaled += tally.points_imported
        # Once more, and cut in another way: what came in is there, and nothing else comes.
        again, _ = taken(database_url, kind, rows, tmp_path, parts=parts + 1)
        assert (again.imported, again.already) == (0, tally.imported + tally.already)
        assert again.points_already == tally.points_imported + tally.points_already
    verified = in_a_thread(lambda: verify(database_url, None, SECRETS.seal_key, lambda _done, _total: None))
    assert verified.balance == journaled
