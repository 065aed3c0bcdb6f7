"""The registry's SQL, read from ledger/sql/registry/: one file per subject, each statement under its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements(subject: str) -> Mapping[str, str]:
    """Return the statements of ledger/sql/registry/SUBJECT.sql by the names in their lines `-- name: ...`."""
    text = resources.files("ledger").joinpath("sql", "registry", f"{subject}.sql").read_text("utf-8")
    parts = _NAME.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
