"""What must have been journaled, and what cannot have been, when a register asked and when it heard.

The journal's own times are the server's, whose clock a campaign sets wrong. So order comes from the registers alone:
an approval that was heard was journaled before, with all its predecessors; an entry whose request was
first sent later was not there yet.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from ledger.operations import Operation as Op
from tests.judge.account_rows import Entry
from tests.judge.events import ANSWERED, REFUSED, SENT, Event


class Journal:
    """The entries by request id and by account. The first of several with one id counts; the others are a breach."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.by_id: dict[bytes, Entry] = {}
        self.by_account: dict[int, list[Entry]] = defaultdict(list)
        self.targeting: dict[bytes, list[Entry]] = defaultdict(list)
        for entry in entries:
            self.by_account[entry["account_id"]].append(entry)
            if entry["request_id"] is not None:
                self.by_id.setdefault(entry["request_id"], entry)
            if entry["target"] is not None:
                self.targeting[entry["target"]].append(entry)


class Timeline:
    """Bounds of what was journaled at a moment of the registers' clock, as seq of an account."""

    def __init__(self, journal: Journal, events: Sequence[Event], local: Callable[[Event], bool]) -> None:
        """`local`: whether an answer may be a relay's, which says nothing of the journal."""
        self._journal = journal
        self._first_sent: dict[bytes, int] = {}
        self._proofs: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._highest: dict[int, list[int]] = {}
        for event in events:
            if event.event == SENT:
                self._first_sent.setdefault(event.request_id, event.at_ms)
            elif event.event == ANSWERED and not event.question and not local(event):
                entry = journal.by_id.get(event.request_id)
                if entry is not None and (event.approved or event.body == entry["answer"]):
                    insort(self._proofs[entry["account_id"]], (event.at_ms, entry["seq"]))
        for account, proofs in self._proofs.items():
            highest = 0
            self._highest[account] = [highest := max(highest, seq) for _, seq in proofs]

    def journaled_before(self, account: int, at_ms: int) -> int:
        """Return the seq up to which the account's entries were certainly journaled before the moment."""
        proofs = self._proofs.get(account)
        index = bisect_left(proofs, (at_ms, -1)) if proofs else 0
        return self._highest[account][index - 1] if index else 0

    def possible_until(self, account: int, at_ms: int, after: int) -> int:
        """Return the seq up to which entries may have been journaled at the moment; `after` is known to have been."""
        seq = after
        for entry in self._journal.by_account[account][after:]:
            # A tombstone bears the id of a request that may come long after it.
            tombstone = entry["op"] == Op.TOMBSTONE
            sent_ms = None if tombstone or entry["request_id"] is None else self._first_sent.get(entry["request_id"])
            if sent_ms is not None and sent_ms > at_ms:
                break
            seq = entry["seq"]
        return seq


def asked_at(events: Sequence[Event]) -> Mapping[int, int]:
    """Return, for the index of each answer, the earliest moment at which the copy that it answers may have been sent.

    Copies of one request on one line cannot be told apart, so the first that is not accounted for counts.
    """
    asked: dict[int, int] = {}
    unanswered: dict[tuple[str, int, bytes], list[int]] = defaultdict(list)
    begun: dict[tuple[str, int, bytes], int] = {}
    for index, event in enumerate(events):
        key = (event.register, event.line, event.request_id)
        if event.event == SENT:
            if not unanswered[key]:
                begun[key] = event.at_ms
            unanswered[key].append(event.at_ms)
        elif event.event in {ANSWERED, REFUSED}:
            asked[index] = begun.get(key, event.at_ms)
            if unanswered[key]:
                unanswered[key].pop()
    return asked
