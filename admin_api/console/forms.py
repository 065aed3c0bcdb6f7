"""Forms that change something: each carries a key made with its page, so that sending it twice does it once."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Form, Response

from admin_api.console.rendering import page
from admin_api.console.visitor import Visitor, seen
from admin_api.console.words import Words
from admin_api.idempotency import Key, Reply, replied_once, replied_once_in_registry
from admin_api.office import Office
from admin_api.problem import Problem, under_way
from ledger.operator_desk import Undecided
from ledger.registry.registry import Conflict
from ledger.submission import Refusal

#: The hidden field of a form that changes something.
FormKey = Annotated[str, Form(alias="key", pattern=r"^[0-9a-f]{32}$")]
#: One line that somebody typed.
Typed = Annotated[str, Form(max_length=400)]

_KEY_BYTES = 16
_POINTS_MAX = 100_000_000_000
_POINTS_DIGITS = 2
_POINTS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")
_IN_FORM = frozenset({409, 422})
_LINE_MAX = 200
_SEPARATORS = re.compile(r"[\s\-\u00a0\u2010-\u2015()./]+")
_UNAVAILABLE = 503

Work = Callable[[bytes], Awaitable[Reply]]


class NotTaken(Exception):  # noqa: N818 - it is an answer
    """A form was not taken; its page is shown again with this sentence.

    With `key` it keeps its key, because nobody knows yet what became of it: sent again, it is done once all the same.
    """

    def __init__(self, sentence: str, status: int = 422, key: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status
        self.key = key


def at(visitor: Visitor, path: str) -> Visitor:
    """Return the visitor of a page that is shown in answer to a form, and that has an address of its own."""
    return replace(visitor, path=path)


def form_page(visitor: Visitor, path: str, template: str, told: NotTaken | None, **context: Any) -> Response:
    """Return the page of a form that lies at a path; `told` is why it was not taken a moment ago."""
    if told is None:
        return page(visitor, template, wrong="", key=new_key(), **context)
    key = told.key or new_key()
    return page(at(visitor, path), template, status=told.status, wrong=told.sentence, key=key, **context)


def new_key() -> str:
    """Return the key of a form that is about to be shown."""
    return secrets.token_hex(_KEY_BYTES)


async def taken(
    office: Office, visitor: Visitor, key: str, place: str, asked: dict[str, Any], work: Work, *, registry: bool = False
) -> Reply:
    """Do what a form asks for, once however often it is sent; `registry` if the ledger has no part in it.

    `place` is what the form is for, as in "block card:...". Raises NotTaken in the visitor's words for what somebody
    can mend, and a Problem for the rest.
    """
    once = replied_once_in_registry if registry else replied_once
    try:
        return await once(office, seen(visitor), Key(key, place), asked, work)
    except Conflict as conflict:
        raise NotTaken(visitor.words.t("form.refused", detail=str(conflict)), 409) from None
    except Problem as problem:
        if problem.status not in _IN_FORM:
            raise
        unsettled = problem.body["type"] == under_way("").body["type"]
        raise NotTaken(said(visitor.words, problem), problem.status, key if unsettled else "") from None
    except Undecided as undecided:
        unsettled = undecided.refusal is Refusal.UNAVAILABLE
        sentence = visitor.words.t("form.unsettled" if unsettled else "form.busy")
        raise NotTaken(sentence, _UNAVAILABLE, key if unsettled else "") from None


def said(words: Words, problem: Problem) -> str:
    """Return why something was not done, in plain words."""
    outcome = problem.body.get("outcome")
    if outcome is not None:
        key = f"form.declined_{str(outcome).lower()}"
        return words.t(key) if words.known(key) else words.outcome(str(outcome))
    fields = [f"form.field_{str(field['where']).replace('.', '_')}" for field in problem.body.get("fields", ())]
    if fields and all(map(words.known, fields)):
        return " ".join(map(words.t, dict.fromkeys(fields)))
    kind = str(problem.body["type"]).rpartition("/")[2].replace("-", "_")
    key = f"form.{kind}"
    return words.t(key) if words.known(key) else words.t("form.refused", detail=problem.body["detail"])


def points_of(text: str) -> int | None:
    """Return minor points of what somebody typed, with a point or a comma; None if it is no amount above 0."""
    tidy = "".join(text.split()).replace(",", ".")
    if not _POINTS.fullmatch(tidy):
        return None
    minor = int(Decimal(tidy).scaleb(_POINTS_DIGITS))
    return minor if 0 < minor <= _POINTS_MAX else None


def number_of(kind: str, text: str) -> str:
    """Return a card's number as it is written without what people put between its digits."""
    if kind == "virtual":
        return text.strip()
    tidy = _SEPARATORS.sub("", text)
    return f"+{tidy[2:]}" if kind == "phone" and tidy.startswith("00") else tidy


def line_of(words: Words, text: str) -> str:
    """Return a reason without spaces around it. Raises NotTaken for none, or one that nobody could keep."""
    line = " ".join(text.split())
    if not line or len(line) > _LINE_MAX or not line.isprintable():
        raise NotTaken(words.t("form.reason_needed"))
    return line
