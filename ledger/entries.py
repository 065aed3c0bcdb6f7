"""From decisions to journal rows: answers are rendered here, and every row is sealed, before anything is committed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import msgpack

from ledger.hot_store import Decided, pack
from ledger.journal.writer import Batch, CardChange, Row
from ledger.operations import Operation, Outcome
from ledger.rendering import Renderer
from ledger.submission import Submission

_SPENDING = frozenset({Operation.REDEEM, Operation.HOLD, Operation.SALE})
_TOMBSTONE = int(Operation.TOMBSTONE)
_HOLD = int(Operation.HOLD)
#: What an entry carries that is not the last one of its account.
_NO_HEAD = (None, None, None, None)
# Lua passes memos on unread, so they may tell bytes from text. One packer for all: making one costs more than its work.
_pack_memo: Callable[[Any], bytes] = msgpack.Packer().pack
_unpack_memo: Callable[[bytes], Any] = msgpack.unpackb
_NO_MOVES = pack([])


class Memo(NamedTuple):
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
        return _pack_memo(self)


#: Of entries that no request asked for.
_NO_MEMO = Memo(b"", 0, "", "")


def memo_of(submission: Submission) -> bytes:
    """Return the packed memo of a request."""
    s = submission
    return _pack_memo(
        (s.fingerprint, s.network_id, s.currency, s.reference, s.limited_day, s.new_token_kind, s.new_token_masked)
    )


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
        batch, answers = Batch(mark=0), []
        parts = list(decided)
        for part in parts:
            batch.mark = part.mark
            # An entry's row tells whether it is the last one of its account, so the changes of all parts come first.
            _merge(batch.accounts, part.changes)
        for part in parts:
            answers += [self._add(batch, result) for result in part.results if result[0] == 0 and result[6]]
        return Journaling(batch, answers)

    def _add(self, batch: Batch, result: Sequence[Any]) -> bytes:
        """Add the rows of a result with entries; return its answer."""
        outcome, points, entries = result[1], result[2], result[6]
        blob = entries[-1][21] or next((e[21] for e in entries if e[21]), None)
        memo = _unpack_memo(blob) if blob else _NO_MEMO
        fingerprint, network_id, currency, reference, limited_day, _, _ = memo
        account = result[7]
        _, after_seq, after_link, last_seq, _, _, _, _, due_ms, state = batch.accounts[account]
        answer = b""
        for entry in entries:
            seq, op, request_id, link = entry[0], entry[1], entry[2] or None, entry[22]
            stored = own_fingerprint = None
            if op == _TOMBSTONE:
                stored = self._renderer.decided(op, network_id, Outcome.REVERSED, 0, 0, None, 0, None)
            elif request_id is not None:
                stored = answer = self._renderer.decided(
                    op, network_id, outcome, points, result[3], result[4], result[5], None
                )
                own_fingerprint = fingerprint
            until_ms = result[5] if op == _HOLD else 0
            moves, cards = entry[16], entry[20]
            batch.entries.append((
                account, seq, link, op, request_id, entry[3], network_id, *entry[4:15], entry[15] or None,
                pack(moves) if moves else _NO_MOVES, *entry[17:20], until_ms, pack(cards) if cards else None,
                currency, reference, own_fingerprint, stored,
                seal(
                    self._seal_key,
                    (account, seq, link, network_id, until_ms, currency, reference, own_fingerprint, stored),
                ),
                *((after_seq, after_link, due_ms or None, state) if seq == last_seq else _NO_HEAD),
            ))  # fmt: skip
            if cards:
                batch.cards.extend(_card_changes(account, cards, *memo[5:]))
            if limited_day and op in _SPENDING:
                batch.terminal_days.append((account, entry[3], limited_day, points))
        return answer


def seal(key: bytes, sealed: tuple[Any, ...]) -> bytes:
    """Return the 16-byte keyed hash over an entry's account, seq and link, and the columns that the link leaves out."""
    digest = _keyed(key).copy()
    digest.update(pack(sealed))
    return digest.digest()


@cache
def _keyed(key: bytes) -> hashlib.blake2b:
    """Return the hash before it has taken anything in: to copy it costs less than to begin with the key."""
    return hashlib.blake2b(digest_size=16, key=key)


def next_link(link: int, entry: Sequence[Any]) -> int:
    """Return the link behind an entry (its first 21 fields), as ledger/lua/shell.lua computes it."""
    digest = hashlib.sha1(b"%d:" % link + pack([*entry[:21], False]), usedforsecurity=False).digest()
    return int.from_bytes(digest[:6], "big")


def _merge(accounts: dict[int, Row], changes: Iterable[Sequence[Any]]) -> None:
    for change in changes:
        account = change[0]
        earlier = accounts.get(account)
        accounts[account] = tuple(change) if earlier is None else (*earlier[:3], *change[3:])


def continuous(decided: Sequence[Decided]) -> int:
    """Return how many of the batches continue each other account by account, so that one commit can take them."""
    if len(decided) == 1:
        return 1
    heads: dict[int, Sequence[Any]] = {}
    for count, part in enumerate(decided):
        for change in part.changes:
            before = heads.get(change[0])
            if before is not None and (before[3], before[4]) != (change[1], change[2]):
                return count
            heads[change[0]] = change
    return len(decided)


def _card_changes(account: int, flat: Sequence[Any], kind: int, masked: str) -> list[CardChange]:
    return [
        CardChange(token, account, status, kind, masked) for token, status in zip(flat[::2], flat[1::2], strict=True)
    ]
