"""Conflicts in sentences that somebody can read aloud: what was promised, why it is not so, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from admin_api.coalition.conflicts import Conflict
from admin_api.console.account_words import when
from admin_api.console.visitor import Visitor, seen
from admin_api.console.words import Words
from admin_api.security.permissions import Permission

#: What has an advice of its own; of the rest nobody has heard.
_ADVISED = frozenset({"earn", "sale", "redeem", "reverse", "release"})
#: Those in which the register names an earlier request instead of a receipt.
_ABOUT_REQUEST = frozenset({"reverse", "release"})
_REQUEST_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class ConflictTold:
    """A conflict in words; `about` is the id of an earlier request that it names."""

    conflict: Conflict
    when: str
    where: str
    what: str
    receipt: str
    about: str
    why: str
    todo: str


def settles_conflicts(visitor: Visitor) -> bool:
    """Return whether this is one of those who deal with conflicts."""
    return visitor.may(Permission.ACCOUNTS_WRITE) and seen(visitor).partner_id is None


def conflict_told(words: Words, conflict: Conflict, *, settles: bool) -> ConflictTold:
    """Return a conflict in words; `settles` tells whether the reader is one who deals with them."""
    till = words.t("history.till", code=conflict.terminal) if conflict.terminal.isdigit() else conflict.terminal
    about = conflict.operation in _ABOUT_REQUEST and len(conflict.reference) == _REQUEST_CHARACTERS
    receipt = bool(conflict.reference) and not about
    return ConflictTold(
        conflict=conflict,
        when=when(words, conflict.sale_ms),
        where=f"{conflict.network}, {conflict.store}, {till}",
        what=_what(words, conflict),
        receipt=words.t("history.receipt", reference=conflict.reference) if receipt else "",
        about=conflict.reference if about else "",
        why=words.t("conflict.why", moment=when(words, conflict.at_ms), reason=_reason(words, conflict.outcome)),
        todo=_todo(words, conflict, settles=settles),
    )


def _what(words: Words, conflict: Conflict) -> str:
    # A currency is three letters from the register, and need not be one that anybody knows.
    amount = words.money(conflict.amount, conflict.currency) if conflict.amount and conflict.currency else ""
    points = words.points(conflict.points)
    if conflict.operation not in _ADVISED:
        return words.t("conflict.what_other", operation=words.operation(conflict.operation))
    key = f"conflict.what_{conflict.operation}"
    bare = "" if amount or conflict.operation in _ABOUT_REQUEST else "_bare"
    return words.t(f"{key}{bare}", amount=amount, points=points)


def _reason(words: Words, outcome: str) -> str:
    key = f"conflict.reason_{outcome}"
    return words.t(key) if words.known(key) else words.reason(outcome)


def _todo(words: Words, conflict: Conflict, *, settles: bool) -> str:
    if not settles:
        return words.t("conflict.todo_office")
    known = conflict.operation if conflict.operation in _ADVISED else "other"
    said = [words.t(f"conflict.todo_{known}", points=words.points(conflict.points))]
    if conflict.account_id is None:
        said.append(words.t("conflict.todo_no_account"))
    return " ".join(said)
