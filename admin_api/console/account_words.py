"""Accounts in sentences that somebody can read aloud: what is there, until when, and what a register would say."""

from __future__ import annotations

from datetime import date

from babel.dates import format_date

from admin_api.accounts.accounts import AccountView, LotView
from admin_api.accounts.at_register import AtNetwork
from admin_api.console.words import Words

_ALL_BP = 10_000
#: Days as they are said: Russian's long form ends in an abbreviation, which no sentence can end in.
_DAY = "d MMMM y"


def calendar(words: Words, iso: str) -> str:
    """Write a day, as in 31 December 2026."""
    return format_date(date.fromisoformat(iso), _DAY, locale=words.locale)


def when(words: Words, at_ms: int) -> str:
    """Write day and time, as in 12 March 2026, 14:05."""
    return f"{words.day(at_ms, _DAY)}, {words.clock(at_ms)}"


def balance_sentences(words: Words, account: AccountView, today: str) -> list[str]:
    """Return the balance in sentences, the most important one first; `today` is an ISO date."""
    balance = account.balance
    said = [words.t("account.available", points=words.points(balance.available))]
    if balance.expiring and balance.expiring_on is not None:
        points, day = words.points(balance.expiring), calendar(words, balance.expiring_on)
        every = balance.expiring == balance.available
        said.append(words.t("account.all_expiring" if every else "account.expiring", points=points, day=day))
    elif balance.available:
        said.append(words.t("account.never_expiring"))
    if balance.held:
        said.append(words.t("account.held", points=words.points(balance.held)))
    later = [lot.from_day for lot in account.lots if lot.from_day > today]
    if balance.pending and later:
        said.append(
            words.t("account.pending", points=words.points(balance.pending), day=calendar(words, min(later)))
        )  # fmt: skip
    if balance.held or balance.pending:
        whole = balance.available + balance.held + balance.pending
        said.append(words.t("account.whole", points=words.points(whole)))
    if balance.owed:
        said.append(words.t("account.owed", points=words.points(balance.owed)))
    return said


def status_sentence(words: Words, account: AccountView) -> str:
    """Return in what state an account is, and what that means."""
    return words.t(f"account.is_{account.status}", account=account.merged_into or "")


def lot_sentence(words: Words, lot: LotView, today: str) -> str:
    """Return until when points last, and from when on if they cannot be spent yet."""
    until = words.t("account.lot_never") if lot.until_day is None else calendar(words, lot.until_day)
    if lot.from_day > today:
        return words.t("account.lot_later", start=calendar(words, lot.from_day), until=until)
    return until


def network_sentence(words: Words, at: AtNetwork) -> str:
    """Return what a register of a network would say to somebody who wants to pay with points."""
    if at.outcome is not None:
        return f"{words.outcome(at.outcome)}."
    said = [words.t("account.may_spend", points=words.points(at.points))]
    if at.least:
        said.append(words.t("account.at_least", points=words.points(at.least)))
    if at.share_bp < _ALL_BP:
        said.append(words.t("account.share", share=words.percent(at.share_bp / _ALL_BP, 0)))
    return ", ".join(said) + "."
