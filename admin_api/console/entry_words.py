"""Entries in sentences that somebody can read aloud: what happened, when, where and by whom, and what it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from admin_api.accounts.history import CardChange, EntryView
from admin_api.accounts.history_finding import Moment
from admin_api.console.account_words import when
from admin_api.console.words import Words

#: A register tells at once what happens; later than that it was offline.
_LATE_MS = 300_000
_TIMED = frozenset({"expire_lots", "expire_hold"})
#: What became of a request that is worth a word of its own.
_TOLD_STANDINGS = frozenset({"reversed", "refunded", "held", "captured", "released", "expired"})


@dataclass(frozen=True, slots=True)
class Told:
    """One entry in words; `standing` is a name and its words, `refers` an address and the words of what is there."""

    seq: int
    request_id: str | None
    account_id: int
    when: str
    where: str
    what: str
    standing: tuple[str, str] | None
    refers: tuple[str, str] | None
    receipt: str
    by: str
    late: str
    change: str
    balance: str


def told(words: Words, entries: Sequence[EntryView], moments: Mapping[str, Moment]) -> list[Told]:
    """Return entries in words; `moments` are those of the requests that they refer to."""
    here = {entry.request_id: entry for entry in entries if entry.request_id is not None}
    return [_told(words, entry, here, moments) for entry in entries]


def _told(
    words: Words, entry: EntryView, here: Mapping[str, EntryView], moments: Mapping[str, Moment]
) -> Told:  # fmt: skip
    late = entry.at_ms - entry.sale_ms > _LATE_MS and entry.terminal is not None
    return Told(
        seq=entry.seq,
        request_id=entry.request_id,
        account_id=entry.account_id,
        when=when(words, entry.at_ms),
        where=_where(words, entry),
        what=happened(words, entry),
        standing=_standing(words, entry),
        refers=_refers(words, entry, here, moments),
        receipt=words.t("history.receipt", reference=entry.reference) if _has_receipt(entry) else "",
        by=_by(words, entry),
        late=words.t("history.late", moment=when(words, entry.sale_ms)) if late else "",
        change=_signed(words, entry.points),
        balance=words.points(entry.balance_after),
    )


def _standing(words: Words, entry: EntryView) -> tuple[str, str] | None:
    if entry.standing not in _TOLD_STANDINGS:
        return None
    return entry.standing or "", words.t(f"standing.{entry.standing}")


def _signed(words: Words, points: int) -> str:
    return "" if not points else ("+" if points > 0 else "\u2212") + words.points(abs(points))


def _has_receipt(entry: EntryView) -> bool:
    # What operators do has a reference for machines; what was brought from elsewhere has the import's.
    return bool(entry.reference) and entry.by is None


def _where(words: Words, entry: EntryView) -> str:
    if entry.terminal is None:
        if entry.operation in _TIMED:
            return words.t("history.by_time")
        return words.t("history.in_office")
    till = words.t("history.till", code=entry.terminal) if entry.terminal.isdigit() else entry.terminal
    return ", ".join(part for part in (entry.network, entry.store, till) if part)


def _by(words: Words, entry: EntryView) -> str:
    if entry.by is None:
        return ""
    if not entry.by.reason:
        return words.t("history.by", name=entry.by.name)
    key = f"reason.{entry.by.reason}"
    reason = words.t(key) if words.known(key) else entry.by.reason
    return words.t("history.by_because", name=entry.by.name, reason=reason)


def _refers(
    words: Words, entry: EntryView, here: Mapping[str, EntryView], moments: Mapping[str, Moment]
) -> tuple[str, str] | None:  # fmt: skip
    target = entry.refers_to
    if target is None:
        return None
    if target in here:
        original = here[target]
        return f"#e{original.seq}", words.t(
            "history.refers", moment=when(words, original.at_ms), what=words.operation(original.operation)
        )
    if target in moments:
        moment = moments[target]
        key = "history.refers" if moment.account == entry.account_id else "history.refers_elsewhere"
        said = words.t(
            key, moment=when(words, moment.at_ms), what=words.operation(moment.operation), account=moment.account
        )
        return f"/requests/{target}", said
    return f"/requests/{target}", words.t("history.refers_unknown")


def happened(words: Words, entry: EntryView) -> str:
    """Return what an entry did, as a sentence."""
    clauses = _CLAUSES.get(entry.operation, _clauses_of_other)(words, entry) or _clauses_of_other(words, entry)
    if entry.owed > 0:
        clauses.append(words.t("history.owes", points=words.points(entry.owed)))
    elif entry.owed < 0 and entry.operation != "merge_out":
        clauses.append(words.t("history.paid_owed", points=words.points(-entry.owed)))
    said = ", ".join(clauses)
    return said[:1].upper() + said[1:] + "."


def _clause(words: Words, key: str, points: int) -> list[str]:
    return [words.t(f"history.{key}", points=words.points(points))] if points else []


def _bought(words: Words, entry: EntryView) -> list[str]:
    if not entry.amount:
        return []
    amount = words.money(entry.amount, entry.currency) if entry.currency else words.points(entry.amount)
    return [words.t("history.bought", amount=amount)]


def _clauses_of_sale(words: Words, entry: EntryView) -> list[str]:
    clauses = _bought(words, entry) + _clause(words, "spent", entry.spent) + _clause(words, "earned", entry.earned)
    return clauses if entry.spent or entry.earned else [*clauses, words.t("history.earned_none")]


def _clauses_of_redeem(words: Words, entry: EntryView) -> list[str]:
    return [*_bought(words, entry), *_clause(words, "spent", entry.spent)]


def _clauses_of_hold(words: Words, entry: EntryView) -> list[str]:
    return _clause(words, "set_aside", entry.held)


def _clauses_of_capture(words: Words, entry: EntryView) -> list[str]:
    return _clause(words, "captured", entry.spent) + _clause(words, "freed", -entry.held - entry.spent)


def _clauses_of_release(words: Words, entry: EntryView) -> list[str]:
    return _clause(words, "freed", -entry.held)


def _clauses_of_refund(words: Words, entry: EntryView) -> list[str]:
    if entry.amount:
        amount = words.money(entry.amount, entry.currency) if entry.currency else words.points(entry.amount)
        clauses = [words.t("history.returned", amount=amount)]
    else:
        clauses = [words.t("history.returned_all")]
    return clauses + _clause(words, "given_back", -entry.spent) + _clause(words, "taken_back", -entry.earned)


def _clauses_of_reverse(words: Words, entry: EntryView) -> list[str]:
    moved = (
        _clause(words, "given_back", max(-entry.spent, 0))
        + _clause(words, "spent", max(entry.spent, 0))
        + _clause(words, "taken_back", max(-entry.earned, 0))
        + _clause(words, "earned", max(entry.earned, 0))
        + _clause(words, "freed", -entry.held)
    )
    return [words.t("history.reversed"), *(moved or [words.t("history.nothing_changed")])]


def _clauses_of_adjust(words: Words, entry: EntryView) -> list[str]:
    given = entry.points - entry.owed
    return _clause(words, "adjusted_up", max(given, 0)) + _clause(words, "adjusted_down", max(-given, 0))


def _clauses_of_expire_lots(words: Words, entry: EntryView) -> list[str]:
    # What is taken back from points that had expired at once revives them first.
    return _clause(words, "expired", max(-entry.points, 0)) + _clause(words, "revived", max(entry.points, 0))


def _clauses_of_expire_hold(words: Words, entry: EntryView) -> list[str]:
    return [words.t("history.hold_ran_out"), *_clause(words, "freed", -entry.held)]


def _clauses_of_merge(words: Words, entry: EntryView) -> list[str]:
    clauses = [words.t(f"history.{entry.operation}")]
    return clauses + _clause(words, "moved", abs(entry.points))


def _clauses_of_card(words: Words, entry: EntryView) -> list[str]:
    cards = [_card(words, change) for change in entry.cards]
    if entry.operation == "replace" and len(cards) > 1:
        return [words.t("history.replace", old=cards[0], new=cards[1])]
    if entry.operation == "replace" or not cards:
        return _clauses_of_other(words, entry)
    return [words.t(f"history.{entry.operation}", card=cards[0])]


def _card(words: Words, change: CardChange) -> str:
    return change.masked or words.t("history.some_card")


def _clauses_of_other(words: Words, entry: EntryView) -> list[str]:
    return [words.operation(entry.operation)]


_CLAUSES = {
    "sale": _clauses_of_sale,
    "earn": _clauses_of_sale,
    "redeem": _clauses_of_redeem,
    "hold": _clauses_of_hold,
    "capture": _clauses_of_capture,
    "release": _clauses_of_release,
    "refund": _clauses_of_refund,
    "reverse": _clauses_of_reverse,
    "adjust": _clauses_of_adjust,
    "expire_lots": _clauses_of_expire_lots,
    "expire_hold": _clauses_of_expire_hold,
    "merge_in": _clauses_of_merge,
    "merge_out": _clauses_of_merge,
    "activate": _clauses_of_card,
    "block": _clauses_of_card,
    "unblock": _clauses_of_card,
    "replace": _clauses_of_card,
    "link": _clauses_of_card,
    "unlink": _clauses_of_card,
}
