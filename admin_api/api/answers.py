"""Parts of answers and addresses that several subjects share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

AccountPath = Annotated[int, Path(ge=1, le=2**48 - 1)]
#: What the document says of an answer in CSV.
CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "A line for each, with a heading."}
}


class Done(BaseModel):
    """It is done, now or before."""

    done: bool = True


def csv_answer(pieces: AsyncIterator[str], name: str) -> StreamingResponse:
    """Return a file that is made while it is sent."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type="text/csv", headers=headers)
