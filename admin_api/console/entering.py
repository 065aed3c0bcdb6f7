"""Forms that change the registry: taken once however often they are sent, refused with words beside the fields."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from admin_api.console.forms import said
from admin_api.console.visitor import Visitor, seen
from admin_api.console.words import Words
from admin_api.idempotency import Key, Reply, replied_once_in_registry
from admin_api.office import Office
from admin_api.problem import Problem
from ledger.registry.registry import Conflict

_MENDABLE = frozenset({409, 422})
_TAKEN = re.compile(r"the name (?P<quote>['\"])(?P<name>.*)(?P=quote) is taken|.*(?P<code>terminal).* is taken")
_T = TypeVar("_T", bound=BaseModel)


async def _fields(request: Request) -> FormData:
    return await request.form()


#: Everything that a form holds, where there is more than a function should name.
Fields = Annotated[FormData, Depends(_fields)]


class Refused(Exception):  # noqa: N818 - it is an answer
    """A form was not taken: a sentence about the whole, sentences by the name of the field, and the status."""

    def __init__(self, sentence: str, fields: Mapping[str, str] | None = None, status: int = 422) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.fields = dict(fields or {})
        self.status = status


async def taken_once(
    office: Office,
    visitor: Visitor,
    key: str,
    place: str,
    asked: BaseModel | dict[str, Any],
    act: Callable[[], Awaitable[BaseModel]],
) -> dict[str, Any]:
    """Do what a form asks for, once, and return what came of it. Raises Refused for what can be mended, else a Problem.

    `place` is what the form is for, as in "rotate terminal 7".
    """

    async def work(_request_id: bytes) -> Reply:
        return Reply(200, (await act()).model_dump(mode="json"))

    words = visitor.words
    try:
        reply = await replied_once_in_registry(office, seen(visitor), Key(key, place), asked, work)
    except Conflict as conflict:
        raise Refused(_conflict(words, str(conflict)), status=409) from None
    except Problem as problem:
        if problem.status not in _MENDABLE:
            raise
        raise refusal(words, problem) from None
    return reply.body


def refusal(words: Words, problem: Problem) -> Refused:
    """Return a problem as what a form is answered; its `fields` are named, and said, as the interface does it."""
    faults = problem.body.get("fields", ())
    named = {str(fault["where"]): str(fault["what"]) for fault in faults}
    if named:
        return Refused(words.t("entry.mend"), named, problem.status)
    return Refused(said(words, problem), status=problem.status)


def asked_of(words: Words, model: type[_T], **fields: Any) -> _T:
    """Return a request made of what somebody typed. Raises Refused with a sentence for each field that is wrong."""
    try:
        return model(**fields)
    except ValidationError as error:
        wrong = {str(one["loc"][0]): bad(words, str(one["loc"][0])) for one in error.errors()}
        raise Refused(words.t("entry.mend"), wrong) from None


def bad(words: Words, name: str) -> str:
    """Return what is asked for in a field, for whoever typed something else."""
    key = f"entry.bad_{name}"
    return words.t(key if words.known(key) else "entry.bad")


def _conflict(words: Words, detail: str) -> str:
    found = _TAKEN.fullmatch(detail)
    if found is None:
        return words.t("form.refused", detail=detail)
    return words.t("entry.name_taken", name=found["name"]) if found["name"] else words.t("entry.code_taken")
