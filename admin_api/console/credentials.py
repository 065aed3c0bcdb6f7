"""What is shown once: terminals' secrets, links, tokens; as a page, and as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Response

from admin_api.console.rendering import page
from admin_api.console.visitor import Visitor
from admin_api.office import Office


def credentials_answer(
    office: Office,
    visitor: Visitor,
    stores: Sequence[tuple[str, Sequence[dict[str, Any]]]],
    what: str,
    place: str,
    sent: dict[str, str | list[str]],
    *,
    as_file: bool,
) -> Response:
    """Return terminals' credentials, store by store; `what` is "opened" or "rotated", `place` where to go on.

    `sent` is what the form held: sent once more with the same key it gets the same answer, then as a file.
    """
    if as_file:
        return _file(visitor, office.registers_at, stores)
    return page(
        visitor, "credentials.html", stores=stores, what=what, place=place, registers_at=office.registers_at,
        count=sum(len(terminals) for _, terminals in stores), sent=list(_flat(sent)),
    )  # fmt: skip


def _flat(sent: dict[str, str | list[str]]) -> Iterable[tuple[str, str]]:
    for name, value in sent.items():
        for one in [value] if isinstance(value, str) else value:
            yield name, one


def _file(visitor: Visitor, registers_at: str, stores: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> Response:
    words = visitor.words
    written = io.StringIO()
    lines = csv.writer(written)
    lines.writerow([words.t(f"credentials.{name}") for name in ("store", "code", "secret", "address")])
    for store, terminals in stores:
        # A store's name is what somebody typed: a spreadsheet must not take it for a formula.
        name = f"'{store}" if store.startswith(("=", "+", "-", "@")) else store
        lines.writerows([name, one["code"], one["secret"], registers_at] for one in terminals)
    headers = {"content-disposition": 'attachment; filename="credentials.csv"'}
    return Response("\ufeff" + written.getvalue(), 200, headers, "text/csv; charset=utf-8")


def told_once(visitor: Visitor, section: str, value: str, place: str, *, name: str, until_ms: int) -> Response:
    """Return a page with a link or a token that nobody can look up later; `section` holds its texts."""
    return page(
        visitor, "told_once.html", section=section, value=value, place=place, name=name,
        until=visitor.words.moment(until_ms),
    )  # fmt: skip
