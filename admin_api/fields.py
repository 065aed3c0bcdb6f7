"""Kinds of values that requests have in common, each refused with 422 where PostgreSQL could not take it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StringConstraints

INTEGER_MAX = 2**31 - 1
BIGINT_MAX = 2**63 - 1
_NAME_CHARACTERS_MAX = 128
_LINE_CHARACTERS_MAX = 200
_NOTE_CHARACTERS_MAX = 500


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters on one line")
    return text


class Asked(BaseModel):
    """A request's body: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid")


class Told(BaseModel):
    """A part of an answer: it has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


#: What a partner, a network or a store is called; registers show it.
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_NAME_CHARACTERS_MAX),
    AfterValidator(_printable),
]
#: Why something was done, for whoever reads it later.
Note = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=_NOTE_CHARACTERS_MAX), AfterValidator(_printable)
]
#: One line for people: a reason, a title.
Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_LINE_CHARACTERS_MAX),
    AfterValidator(_printable),
]
#: An address for e-mail, as far as one can tell without sending one.
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"),
    AfterValidator(_printable),
]
#: An id in a body.
BodyId = Annotated[StrictInt, Field(ge=1, le=INTEGER_MAX)]
BodyBigId = Annotated[StrictInt, Field(ge=1, le=BIGINT_MAX)]
#: An id in a path, of a table whose ids are an integer or a bigint.
Id = Annotated[int, Path(ge=1, le=INTEGER_MAX)]
BigId = Annotated[int, Path(ge=1, le=BIGINT_MAX)]
#: The same in a query, as a filter.
IdFilter = Annotated[int | None, Query(ge=1, le=INTEGER_MAX)]
#: Part of a name, in any case.
Search = Annotated[
    str | None, Query(min_length=1, max_length=_NAME_CHARACTERS_MAX), AfterValidator(lambda s: s and _printable(s))
]
