import base64
from contextlib import suppress

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st

from admin_api.office import OfficeLimits
from admin_api.paging import Cursor, Key, Page, Position, decode, encode
from admin_api.problem import Problem

PRINTABLE = st.text().filter(str.isprintable)
KEYS = st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | PRINTABLE, min_size=1, max_size=3)


@given(KEYS.map(tuple))
def test_a_cursor_brings_its_key_back(key: Key) -> None:
    assert decode(encode(key)) == key


@given(KEYS.map(tuple))
def test_a_cursor_fits_into_a_query_as_it_is(key: Key) -> None:
    assert encode(key).replace("-", "").replace("_", "").isalnum()


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "", "!", "a", "é", "[1]",
        cursor_of("1"), cursor_of("[]"), cursor_of("{}"), cursor_of("[null]"), cursor_of("[true]"),
        cursor_of("[1.5]"), cursor_of("[[1]]"), cursor_of(f"[{2**63}]"), cursor_of('["\\u0000"]'), cursor_of("[NaN]"),
        cursor_of('["\\ud800"]'), cursor_of("[" * 300),
    ],
)  # fmt: skip
def test_a_cursor_that_was_never_given_is_a_bad_request(cursor: str) -> None:
    with pytest.raises(Problem) as refused:
        decode(cursor)
    assert refused.value.body["status"] == 400


@given(st.text())
def test_no_cursor_breaks_the_reader(cursor: str) -> None:
    with suppress(Problem):
        assert decode(cursor)


def test_the_cursor_of_another_list_is_a_bad_request() -> None:
    for key in [("a",), (1, 2), (1, "a")]:
        with pytest.raises(Problem):
            Position(5, key).number(0)
    assert Position(5).number(7) == 7
    assert Position(5, (3,)).number(7) == 3
    assert Position(5, ("a", 3)).values(str, int) == ("a", 3)


@given(st.integers(0, 30), st.integers(1, 10))
def test_pages_hold_every_row_once_and_the_last_has_no_next(rows: int, limit: int) -> None:
    seen: list[int] = []
    position = Position(limit)
    while True:
        after = position.number(0)
        read = list(range(after + 1, rows + 1))[: position.rows_max]
        page: Page[int] = position.page(read, lambda row: row, lambda row: (row,))
        seen += page.items
        if page.next is None:
            break
        assert len(page.items) == limit
        position = Position(limit, decode(page.next))
    assert seen == list(range(1, rows + 1))


async def test_the_query_is_bounded_by_the_installation() -> None:
    class Office:
        limits = OfficeLimits(page_rows_max=70)

    app = FastAPI()
    app.state.office = Office()

    @app.exception_handler(Problem)
    def _problem(_request: object, problem: Problem) -> JSONResponse:
        return JSONResponse(problem.body, problem.status)

    @app.get("/")
    def rows(position: Cursor) -> list[int | str]:
        return [position.limit, *position.key]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://office.test") as client:
        assert (await client.get("/")).json() == [50]
        assert (await client.get("/", params={"limit": 70, "cursor": encode((3, "x"))})).json() == [70, 3, "x"]
        assert (await client.get("/", params={"limit": 71})).status_code == 422
        assert (await client.get("/", params={"limit": 0})).status_code == 422
        assert (await client.get("/", params={"cursor": "?"})).status_code == 400
