"""Types of values in requests that PostgreSQL can keep and people can read."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

INTEGER_MAX = 2**31 - 1
BIGINT_MAX = 2**63 - 1


class Asked(BaseModel):
    """The body of a request: a field that nobody knows is a mistake, not a wish to be ignored."""

    model_config = ConfigDict(extra="forbid")


def _readable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be shown")
    return text


#: One line for people: a name, a reason.
Line: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_readable)
]
#: An address for e-mail, as far as one can tell without sending one.
Email: TypeAlias = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"),
    AfterValidator(_readable),
]
#: A key of the database: four bytes, or eight.
Id: TypeAlias = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
BigId: TypeAlias = Annotated[int, Field(ge=1, le=BIGINT_MAX)]
PathId: TypeAlias = Annotated[int, Path(ge=1, le=INTEGER_MAX)]
PathBigId: TypeAlias = Annotated[int, Path(ge=1, le=BIGINT_MAX)]
