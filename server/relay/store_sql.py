"""The store's SQL, read from server/relay/sql/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

VERSION: Final = 1
"""The schema's version; each has its file NNNN_*.sql, applied one after the other."""

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements() -> Mapping[str, str]:
    """Return the statements of store.sql by the names in their lines `-- name: ...`."""
    parts = _NAME.split(_text("store.sql"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@cache
def migration(version: int) -> str:
    """Return the script that makes the schema of `version` out of the one before."""
    (name,) = [each.name for each in _folder().iterdir() if each.name.startswith(f"{version:04}_")]
    return _text(name)


def _folder() -> resources.abc.Traversable:
    return resources.files("server").joinpath("relay", "sql")


def _text(name: str) -> str:
    return _folder().joinpath(name).read_text("utf-8")
