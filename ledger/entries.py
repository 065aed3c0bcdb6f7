"""From decisions to journal rows: answers are rendered here, and every row is sealed, before anything is committed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.hot_store import Decided, pack, unpack
from ledger.journal.writer import Batch, CardChange, Row
from ledger.operations import Operation, Outcome
from ledger.rendering import Renderer
from ledger.submission import Submission

_SPENDING = frozenset({Operation.REDEEM, Operation.HOLD, Operation.SALE})


@dataclass(frozen=True, slots=True)
class Memo:
    """What a request carries past the decision, untouched, into its journal row.

    `limited_day` is the business day when the terminal's spending is counted against a daily limit, else 0.
    """

    fingerprint: bytes
    network_id: int
    currency: str
    reference: str
    limited_day: int = 0
    new_card_kind: int = 0
    new_card_masked: str = ""

    def packed(self) -> bytes:
        """Return the memo as the opaque bytes that Lua passes on."""
        return pack((self.fingerprint, self.network_id, self.currency, self.reference, self.limited_day,
                     self.new_card_kind, self.new_card_masked))  # fmt: skip

    @classmethod
    def unpacked(cls, blob: bytes | bool) -> Memo:
        """Return the memo of an entry; entries that no request asked for have none."""
        if not isinstance(blob, bytes):
            return _NO_MEMO
        fingerprint, network_id, currency, reference, limited_day, kind, masked = unpack(blob)
        return cls(fingerprint, network_id, currency.decode(), reference.decode(), limited_day, kind, masked.decode())


def memo_of(submission: Submission) -> bytes:
    """Return the packed memo of a request, as `Memo.packed` does, without making one."""
    s = submission
    return pack(
        (s.fingerprint, s.network_id, s.currency, s.reference, s.limited_day, s.new_token_kind, s.new_token_masked)
    )


_NO_MEMO = Memo(b"", 0, "", "")


@dataclass(slots=True)
class Journaling:
    """A batch ready to be committed, and the answers that leave when it is: one per result with entries."""

    batch: Batch
    answers: list[bytes]


class EntryWriter:
    """Turns decided batches into one journal batch. Holds no state between calls."""

    def __init__(self, renderer: Renderer, seal_key: bytes) -> None:
        self._renderer = renderer
        self._seal_key = seal_key

    def journaling(self, decided: Iterable[Decided]) -> Journaling:
        """Return the rows and answers of decided batches that follow each other."""
        journaling = Journaling(Batch(mark=0), [])
        for part in decided:
            journaling.batch.mark = part.mark
            for change in part.changes:
                _merge(journaling.batch.accounts, change)
            for result in part.results:
                if result[0] == 0 and result[6]:
                    journaling.answers.append(self._add(journaling.batch, result))
        return journaling

    def _add(self, batch: Batch, result: Sequence[Any]) -> bytes:
        _, outcome, points, earned, balance, detail, entries, account, _ = result
        memo = Memo.unpacked(next((e[21] for e in reversed(entries) if e[21]), False))
        answer = b""
        for entry in entries:
            op, request_id = entry[1], entry[2] or None
            stored, fingerprint = None, None
            if op == Operation.TOMBSTONE:
                stored = self._renderer.decided(op, memo.network_id, Outcome.REVERSED, 0, 0, None, 0, None)
            elif request_id is not None:
                stored = answer = self._renderer.decided(
                    op, memo.network_id, outcome, points, earned, balance, detail, None
                )
                fingerprint = memo.fingerprint
            batch.entries.append(
                self._row(account, entry, memo, detail if op == Operation.HOLD else 0, fingerprint, stored)
            )
            if entry[20]:
                batch.cards.extend(_card_changes(account, entry[20], memo))
            if memo.limited_day and op in _SPENDING:
                batch.terminal_days.append((account, entry[3], memo.limited_day, points))
        return answer

    def _row(
        self,
        account: int,
        entry: Sequence[Any],
        memo: Memo,
        until_ms: int,
        fingerprint: bytes | None,
        answer: bytes | None,
    ) -> Row:
        (seq, op, request_id, terminal, points, held, owed, balance_after, held_after, owed_after, spent, earned,
         refunded, amount, eligible, target, moves, at_ms, sale_ms, rate_bp, cards, _, link) = entry  # fmt: skip
        sealed = (memo.network_id, until_ms, memo.currency, memo.reference, fingerprint, answer)
        return (
            account, seq, link, op, request_id or None, terminal, memo.network_id, points, held, owed, balance_after,
            held_after, owed_after, spent, earned, refunded, amount, eligible, target or None,
            "{" + ",".join(map(str, moves)) + "}", at_ms, sale_ms, rate_bp, until_ms, pack(cards) if cards else None,
            memo.currency, memo.reference, fingerprint, answer,
            seal(self._seal_key, account, seq, link, sealed),
        )  # fmt: skip


def seal(key: bytes, account: int, seq: int, link: int, sealed: tuple[Any, ...]) -> bytes:
    """Return the 16-byte keyed hash over what the link does not cover (and the link itself)."""
    return hashlib.blake2b(pack((account, seq, link, *sealed)), digest_size=16, key=key).digest()


def next_link(link: int, entry: Sequence[Any]) -> int:
    """Return the link behind an entry (its first 21 fields), as ledger/lua/shell.lua computes it."""
    digest = hashlib.sha1(b"%d:" % link + pack([*entry[:21], False]), usedforsecurity=False).digest()
    return int.from_bytes(digest[:6], "big")


def _merge(accounts: dict[int, Row], change: Sequence[Any]) -> None:
    account, after_seq, after_link, *now = change
    earlier = accounts.get(account)
    if earlier is not None:
        after_seq, after_link = earlier[1], earlier[2]
    accounts[account] = (account, after_seq, after_link, *now)


def continuous(decided: Sequence[Decided]) -> int:
    """Return how many of the batches continue each other account by account, so that one commit can take them."""
    heads: dict[int, tuple[int, int]] = {}
    for count, part in enumerate(decided):
        for account, after_seq, after_link, seq, link, *_ in part.changes:
            if heads.get(account, (after_seq, after_link)) != (after_seq, after_link):
                return count
            heads[account] = (seq, link)
    return len(decided)


def _card_changes(account: int, flat: Sequence[Any], memo: Memo) -> list[CardChange]:
    return [
        CardChange(token, account, status, memo.new_card_kind, memo.new_card_masked)
        for token, status in zip(flat[::2], flat[1::2], strict=True)
    ]
