"""Decides what moving in asks, by the ledger's own scripts in this process, and makes the journal's rows of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.business_day import BusinessDay
from ledger.entries import EntryWriter
from ledger.hot_store import PartitionHead, ScriptFailed
from ledger.journal.moving import Head
from ledger.journal.writer import Batch
from ledger.positional import positional
from ledger.programme import Programme
from ledger.standby import StandbyStores
from protocol.codes import Outcome
from server.moving.openings import Asked
from server.registers.answers import AnswerRenderer

#: Of one call of the scripts: accounts at most, and changes after which no further account is taken in.
_ACCOUNTS_AT_ONCE, _CHANGES_AT_ONCE = 1_000, 4_000
_PARTITION = 0
_HEAD = PartitionHead(1, 1, 0)
_TERMS = [[0] * 9]


class Decider:
    """Decides in memory on heads that it is given; nothing of it lasts but what it returns."""

    def __init__(self, seal_key: bytes, days: BusinessDay) -> None:
        nothing = Programme.empty()
        self._writer = EntryWriter(AnswerRenderer(lambda: nothing, lambda: 0), seal_key)
        self._store = StandbyStores(accounts_max=1).make()
        self._days = days

    async def decide(self, heads: dict[int, Head], asked: Iterable[Asked], now_ms: int) -> Batch:
        """Decide for each account in the order given; note each outcome, and return what is to be journaled.

        An operation that these scripts do not know is NOT_PERMITTED.
        """
        by_account: dict[int, list[Asked]] = {}
        for one in asked:
            by_account.setdefault(one.account, []).append(one)
        whole = Batch(mark=0)
        part: dict[int, list[Asked]] = {}
        size = 0
        for account, own in by_account.items():
            part[account] = own
            size += len(own)
            if len(part) >= _ACCOUNTS_AT_ONCE or size >= _CHANGES_AT_ONCE:
                _add(whole, await self._decide(heads, part, now_ms))
                part, size = {}, 0
        if part:
            _add(whole, await self._decide(heads, part, now_ms))
        return whole

    async def _decide(self, heads: dict[int, Head], part: dict[int, list[Asked]], now_ms: int) -> Batch:
        today = self._days.day(now_ms)
        offset_ms = self._days.utc_offset_ms(now_ms)
        accounts = list(part)
        loads = [[i, heads[a].link, heads[a].state] for i, a in enumerate(accounts, start=1)]
        flat = [(i, one) for i, account in enumerate(accounts, start=1) for one in part[account]]
        items = [[i, 1, positional(one.submission(_NOBODY, 0.0), now_ms, today)] for i, one in flat]
        await self._store.reset(_PARTITION, _HEAD)
        try:
            decided = await self._store.decide(_PARTITION, _HEAD, 0, accounts, [offset_ms, _TERMS, loads, items])
        except ScriptFailed:
            if len(flat) == 1:
                flat[0][1].outcome = int(Outcome.NOT_PERMITTED)
                return Batch(mark=0)
            return await self._one_by_one(heads, part, now_ms)
        for (_, one), result in zip(flat, decided.results, strict=True):
            one.outcome = result[1]
        return self._writer.journaling([decided]).batch

    async def _one_by_one(self, heads: dict[int, Head], part: dict[int, list[Asked]], now_ms: int) -> Batch:
        """Find what the scripts fail on, so that the rest goes on."""
        whole = Batch(mark=0)
        for account, own in part.items():
            for one in own:
                made = await self._decide(heads, {account: [one]}, now_ms)
                if account in made.accounts:
                    row = made.accounts[account]
                    heads[account] = Head(row[3], row[4], row[9])
                    if account in whole.accounts:
                        made.accounts[account] = (*whole.accounts[account][:3], *row[3:])
                _add(whole, made)
        return whole


def _add(whole: Batch, part: Batch) -> None:
    whole.accounts.update(part.accounts)
    whole.entries.extend(part.entries)
    whole.cards.extend(part.cards)


def declined(outcomes: Sequence[int | None]) -> str:
    """Return the name of the first outcome that is no approval, or ""."""
    for outcome in outcomes:
        if outcome is None:
            return "UNDECIDED"
        if outcome > int(Outcome.APPROVED_PARTIAL):
            return Outcome(outcome).name if outcome in set(Outcome) else str(outcome)
    return ""


class _Nobody:
    """Takes no answer: the decision is read where it is made."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Ignore it."""

    def refuse(self, request_id: bytes, refusal: object, retry_after_ms: int) -> None:
        """Ignore it."""


_NOBODY = _Nobody()
