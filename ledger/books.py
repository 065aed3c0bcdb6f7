"""What is under way per account, so that nobody reads the truth about an account while it is still being made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ledger.submission import Submission


class Books:
    """Counts submissions between decision and answer, and changes between decision and commit.

    `freed` is called whenever an account has nothing more of one kind.
    """

    def __init__(self, freed: Callable[[int], None]) -> None:
        self._freed = freed
        self._under_way: dict[int, int] = {}
        self._uncommitted: dict[int, int] = {}

    def is_free(self, account: int) -> bool:
        """Return whether PostgreSQL knows all there is to know about the account."""
        return account not in self._under_way and account not in self._uncommitted

    def has_uncommitted(self, account: int) -> bool:
        """Return whether Redis shows something of the account that is not journaled yet."""
        return account in self._uncommitted

    @property
    def idle(self) -> bool:
        """Return whether nothing at all is under way."""
        return not self._under_way and not self._uncommitted

    def begin(self, submission: Submission) -> None:
        """Note that a submission goes to the decision."""
        account = submission.account
        self._under_way[account] = self._under_way.get(account, 0) + 1

    def end(self, submission: Submission) -> None:
        """Note that a submission is answered, or goes another way."""
        self._less(self._under_way, submission.account)

    def decided(self, changes: Iterable[Any]) -> None:
        """Note the changes (as ledger/lua/shell.lua returns them) that a script call made."""
        uncommitted = self._uncommitted
        for change in changes:
            account = change[0]
            uncommitted[account] = uncommitted.get(account, 0) + 1

    def committed(self, changes: Iterable[Any]) -> None:
        """Note that such changes are journaled or refused."""
        for change in changes:
            self._less(self._uncommitted, change[0])

    def _less(self, counts: dict[int, int], account: int) -> None:
        count = counts[account] - 1
        if count:
            counts[account] = count
        else:
            del counts[account]
            self._freed(account)
