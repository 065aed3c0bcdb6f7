"""Two accounts become one by two entries: whether each says what the other does. Pure, like `ledger.audit`."""

from __future__ import annotations

from ledger.audit import AccountAudit, BadRow, Merge


class MergeAudit:
    """Puts the halves of all merges side by side, whichever accounts they are of and in whatever order they come."""

    def __init__(self) -> None:
        self._given: dict[bytes, tuple[Merge, bool]] = {}
        self._taken: dict[bytes, Merge] = {}

    def add(self, audit: AccountAudit) -> None:
        """Take an account whose head was checked. Raises BadRow."""
        if audit.given is not None:
            self._given[audit.given.out_id] = audit.given, audit.cards_left
        for merge in audit.taken:
            other = self._taken.setdefault(merge.out_id, merge)
            if other is not merge:
                raise BadRow(merge.account, merge.seq, f"takes in what account {other.account} has taken in")

    def finish(self) -> int:
        """Compare what was given up with what was taken in; return the points under way in between. Raises BadRow."""
        for out_id, taken in self._taken.items():
            if out_id not in self._given:
                raise BadRow(taken.account, taken.seq, "takes in what no account has given up")
            given, cards_left = self._given[out_id]
            if (taken.lots, taken.owed, taken.cards) != (given.lots, given.owed, given.cards):
                raise BadRow(taken.account, taken.seq, f"takes in something else than account {given.account} gave up")
            if cards_left:
                raise BadRow(given.account, given.seq, "cards lead to an account that another one has taken in")
        points = 0
        for out_id, (given, cards_left) in self._given.items():
            if out_id not in self._taken:
                if given.cards and not cards_left:
                    raise BadRow(
                        given.account, given.seq, "the cards of the closed account have gone before they were taken in"
                    )
                points += given.points
        return points
