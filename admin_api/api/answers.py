"""Answers that several subjects share."""

from __future__ import annotations

from pydantic import BaseModel


class Done(BaseModel):
    """It is done, now or before."""

    done: bool = True
