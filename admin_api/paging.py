"""Pages of lists: each carries an opaque cursor that says where the next one begins, whatever was added meanwhile."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from admin_api.problem import Problem, bad_request, invalid
from admin_api.security.authentication import InOffice

_LIMIT = 50
_CURSOR_CHARACTERS_MAX = 1_024
_BIGINT_MAX = 2**63 - 1

T = TypeVar("T")
R = TypeVar("R")

#: What a list is sorted by: the columns of its last row shown.
Key = tuple[int | str, ...]


class Page(BaseModel, Generic[T]):
    """Some rows of a list; `next` is the cursor of the next page, null on the last one."""

    items: list[T]
    next: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins and how long it may be: after the row with this key, at the very beginning if it is empty."""

    limit: int = _LIMIT
    key: Key = ()

    @property
    def rows_max(self) -> int:
        """How many rows to read: one more than are shown tells whether there is a next page."""
        return self.limit + 1

    def number(self, beginning: int) -> int:
        """Return the key of a list sorted by one number. Raises a Problem (400) if the cursor is another list's."""
        match self.key:
            case ():
                return beginning
            case (int(number),):
                return number
        raise _bad_cursor()

    def values(self, *types: type[int | str]) -> Key:
        """Return the key if it has just these types. Raises a Problem (400) if the cursor is another list's."""
        if tuple(map(type, self.key)) != types:
            raise _bad_cursor()
        return self.key

    def page(self, rows: Sequence[R], shown: Callable[[R], T], key: Callable[[R], Key]) -> Page[T]:
        """Return up to `limit` of the rows, of which `rows_max` were read, and the cursor after the last one."""
        items = [shown(row) for row in rows[: self.limit]]
        more = len(rows) > self.limit
        return Page(items=items, next=encode(key(rows[self.limit - 1])) if more else None)


def encode(key: Key) -> str:
    """Return the cursor of a key."""
    packed = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(cursor: str) -> Key:
    """Return the key of a cursor. Raises a Problem (400) for what `encode` did not make."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(values, list) or not values or not all(map(_is_key, values)):
        raise _bad_cursor()
    return tuple(values)


def _is_key(value: object) -> bool:
    """Return whether PostgreSQL can compare this with a bigint or a text."""
    if isinstance(value, str):
        return value.isprintable()
    return type(value) is int and abs(value) <= _BIGINT_MAX


def _bad_cursor() -> Problem:
    return bad_request("the cursor is not one of this list; begin without one")


def _position(
    office: InOffice,
    limit: Annotated[int, Query(ge=1, description="How many items at most; the installation has a bound.")] = _LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=_CURSOR_CHARACTERS_MAX, description="`next` of the page before.")
    ] = None,
) -> Position:
    if limit > office.limits.page_rows_max:
        raise invalid(f"limit is at most {office.limits.page_rows_max}")
    return Position(limit, () if cursor is None else decode(cursor))


#: The query parameters `limit` and `cursor` of a list's endpoint.
Cursor = Annotated[Position, Depends(_position)]
