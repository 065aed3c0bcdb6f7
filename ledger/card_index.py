"""Which account a card leads to: remembered tokens before PostgreSQL.

A remembered account is a hint only: whether the card is still one of its cards, the account's own state decides.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

from ledger.journal.pulse import Pulse
from ledger.journal.reader import CardRow, Reader
from ledger.journal.writer import JournalDown
from ledger.submission import Submission

#: A card that was issued and never used still moves to another account when it replaces a lost one; any other stays.
_ISSUED = 0

Resolved = Callable[[Submission, int | None], None]


class CardIndex:
    """Resolves tokens to accounts in batches that form by themselves."""

    def __init__(
        self,
        reader: Reader,
        pulse: Pulse,
        resolved: Resolved,
        failed: Callable[[Submission], None],
        *,
        entries_max: int,
        waiting_max: int,
    ) -> None:
        self._reader = reader
        self._pulse = pulse
        self._resolved = resolved
        self._failed = failed
        self._entries_max = entries_max
        self._waiting_max = waiting_max
        self._accounts: OrderedDict[bytes, int] = OrderedDict()
        self._waiting: list[Submission] = []
        self._asked: list[Submission] = []
        self._looked_up: Counter[bytes] = Counter()
        self._wanted = asyncio.Event()
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Return whether nothing is being looked up."""
        return not self._waiting and not self._asked

    def known(self, token: bytes) -> int | None:
        """Return the remembered account of a token; None while somebody waits for it, who must not be overtaken."""
        if token in self._looked_up:
            return None
        account = self._accounts.get(token)
        if account is not None:
            self._accounts.move_to_end(token)
        return account

    def forget(self, token: bytes) -> None:
        """Look the token up in PostgreSQL the next time."""
        self._accounts.pop(token, None)

    def resolve(self, submission: Submission) -> bool:
        """Call back with the account (None = unknown card) when PostgreSQL has told it; False when too many wait.

        While PostgreSQL is away it fails at once.
        """
        if self._stopped or self._pulse.away:
            self._failed(submission)
            return True
        if len(self._waiting) >= self._waiting_max:
            return False
        self._waiting.append(submission)
        self._looked_up[submission.token] += 1
        self._wanted.set()
        return True

    async def run(self) -> None:
        """Look tokens up until cancelled; from then on every look-up fails."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                self._asked, self._waiting = self._waiting, []
                if not self._asked:
                    continue
                try:
                    rows = await self._reader.cards(list({s.token for s in self._asked}))
                except JournalDown:
                    # The others would only learn the same, one time-out later.
                    self._asked, self._waiting = [*self._asked, *self._waiting], []
                    self._fail_asked()
                else:
                    self._remember(rows)
                    for submission in self._answered():
                        row = rows.get(submission.token)
                        self._resolved(submission, None if row is None else row.account)
        finally:
            self._stopped = True
            self._asked, self._waiting = [*self._asked, *self._waiting], []
            self._fail_asked()

    def _fail_asked(self) -> None:
        for submission in self._answered():
            self._failed(submission)

    def _answered(self) -> list[Submission]:
        asked, self._asked = self._asked, []
        self._looked_up -= Counter(submission.token for submission in asked)
        return asked

    def _remember(self, rows: dict[bytes, CardRow]) -> None:
        for token, row in rows.items():
            if row.status != _ISSUED:
                self._accounts[token] = row.account
        while len(self._accounts) > self._entries_max:
            self._accounts.popitem(last=False)
