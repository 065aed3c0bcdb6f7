"""Texts that a spreadsheet would take for a formula, and run: a member can be called `=HYPERLINK(...)`.

They leave with an apostrophe before them, which is taken off when such a file comes in again, so nothing is lost.
"""

from __future__ import annotations

import re

# An apostrophe that was there before gets another one. A number with its sign, such as that of a phone, is harmless.
_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-](?!\d[\d.,]*\Z))")
_MARK = "'"


def guarded(text: str) -> str:
    """Return a text as it is written into a CSV file."""
    return _MARK + text if _FORMULA.match(text) else text


def bare(text: str) -> str:
    """Return what `guarded` was given."""
    return text[1:] if text.startswith(_MARK) and _FORMULA.match(text) else text
