"""Requests by a card that led to another account before: those of that time are still that account's.

A card that was taken from an account (UNLINK) leads nowhere, or elsewhere. Registers go on to name it when they retry
what they asked before, or ask what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledger.journal.reader import CardRow, Reader, Stored
from ledger.operations import Operation
from ledger.submission import Submission

#: What names an earlier request may be asked for by any card of its account, in whatever state, also a former one.
_NAMES_EARLIER = frozenset({
    Operation.CAPTURE, Operation.RELEASE, Operation.REFUND, Operation.REVERSE, Operation.STATUS
})  # fmt: skip


class Past(NamedTuple):
    """What the journal says: answers by request id, and by token and earlier request the account that is meant."""

    stored: dict[bytes, Stored]
    homes: dict[tuple[bytes, bytes], int]

    def home(self, submission: Submission) -> int | None:
        """Return the account of the earlier request that a submission names, if its card led there once."""
        return self.homes.get((submission.token, submission.target)) if submission.target is not None else None


def has_past(card: CardRow | None) -> bool:
    """Return whether earlier requests by a card may be another account's; of an unknown one nobody can tell."""
    return card is None or card.former


async def past_of(reader: Reader, submissions: Iterable[Submission]) -> Past:
    """Return what the journal says of requests by such cards. Raises JournalDown."""
    asked = list(submissions)
    if not asked:
        return Past({}, {})
    stored = await reader.stored([s.request_id for s in asked])
    earlier = [(s.token, s.target) for s in asked if s.op in _NAMES_EARLIER and s.target is not None]
    return Past(stored, await reader.former_homes(earlier) if earlier else {})
