"""Where submissions wait for what only PostgreSQL can tell.

While an account waits here nothing of it is decided, and its truth is read only when nothing of it is under way.
So the truth cannot go stale before the decision that uses it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from ledger.books import Books
from ledger.limits import Limits
from ledger.statistics import Statistics
from ledger.submission import Submission
from ledger.truth import Truth, TruthReader

log = structlog.get_logger(__name__)


class WaitingRoom:
    """Submissions by account until their truth is read, and the truths until the decision takes them."""

    def __init__(
        self,
        truth_reader: TruthReader,
        limits: Limits,
        statistics: Statistics,
        ready: Callable[[], None],
        lost: Callable[[Submission], None],
    ) -> None:
        self._truth_reader = truth_reader
        self._limits = limits
        self._statistics = statistics
        self._ready = ready
        self._lost = lost
        self._waiting: dict[int, list[Submission]] = {}
        self._truths: deque[Truth] = deque()
        self._wanted = asyncio.Event()
        self._size = 0
        self._distrusted: set[int] = set()

    def __contains__(self, account: int) -> bool:
        return account in self._waiting

    def __len__(self) -> int:
        return self._size

    @property
    def empty(self) -> bool:
        """Return whether no account waits, with or without submissions."""
        return not self._waiting

    @property
    def has_truth(self) -> bool:
        """Return whether some account can be decided on."""
        return bool(self._truths)

    def add(self, submission: Submission) -> None:
        """Let a submission wait for the truth about its account."""
        self._waiting.setdefault(submission.account, []).append(submission)
        self._size += 1
        self._wanted.set()

    def add_first(self, submission: Submission) -> None:
        """Let a submission wait that came before all that wait for its account, so that none of them overtakes it."""
        self._waiting.setdefault(submission.account, []).insert(0, submission)
        self._size += 1
        self._wanted.set()

    def reload(self, account: int) -> None:
        """Replace what Redis holds of an account by the truth, even if nobody asks for it."""
        self._waiting.setdefault(account, [])
        self._wanted.set()

    def distrust(self, account: int) -> None:
        """Let nothing count that was decided of an account, since PostgreSQL vetoed some, until it is reloaded."""
        self._distrusted.add(account)
        self.reload(account)

    def distrusts(self, account: int) -> bool:
        """Return whether decisions of an account that are under way rest on something that PostgreSQL vetoed."""
        return account in self._distrusted

    def freed(self, account: int) -> None:
        """Learn that nothing of an account is under way any more."""
        if account in self._waiting:
            self._wanted.set()

    def take(self) -> tuple[Truth, list[Submission]]:
        """Return the next truth, and the submissions that it does not serve; the account waits no longer."""
        truth = self._truths.popleft()
        # It was read when nothing of the account was under way, so whatever rested on the veto has been told so.
        self._distrusted.discard(truth.account)
        late = self._waiting.pop(truth.account)[len(truth.submissions) :]
        self._size -= len(truth.submissions) + len(late)
        return truth, late

    def leftovers(self) -> list[Submission]:
        """Return every submission that still waits."""
        return [submission for submissions in self._waiting.values() for submission in submissions]

    async def run(self, books: Books) -> None:
        """Read truths until cancelled. Raises JournalDown."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            read = {truth.account for truth in self._truths}
            free = [account for account in self._waiting if account not in read and books.is_free(account)]
            for start in range(0, len(free), self._limits.loads_max):
                await self._read(free[start : start + self._limits.loads_max])

    async def _read(self, accounts: list[int]) -> None:
        asked = {account: list(self._waiting[account]) for account in accounts}
        truths = await self._truth_reader.read(asked)
        for truth in truths:
            before = asked.pop(truth.account)
            arrived = self._waiting[truth.account][len(before) :]
            # The truth reader has answered those that only wanted to know, and kept the rest in order.
            kept = [*truth.submissions, *truth.put_off]
            self._waiting[truth.account] = [*kept, *arrived]
            self._size -= len(before) - len(kept)
            self._truths.append(truth)
        for account in asked:
            for submission in self._waiting.pop(account):
                self._size -= 1
                log.error("account without a row", account=account, request_id=submission.request_id.hex())
                self._lost(submission)
        self._statistics.loaded(len(truths))
        self._ready()
