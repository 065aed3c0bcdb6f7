"""Which account a card leads to: remembered tokens before PostgreSQL.

A remembered account is a hint only: whether the card is still one of its cards, the account's own state decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ledger.former_cards import Past, has_past, past_of
from ledger.journal.pulse import Pulse
from ledger.journal.reader import CardRow, Reader, Stored
from ledger.journal.writer import JournalDown
from ledger.remembered_cards import RememberedCards
from ledger.submission import Submission

#: A card that was issued and never used still moves to another account when it replaces a lost one; any other stays
#: until it is taken from its account, and after that it is looked up each time.
_ISSUED = 0

Resolved = Callable[[Submission, int | None], None]
Replay = Callable[[Submission, Stored], None]


class CardIndex:
    """Resolves tokens to accounts in batches that form by themselves."""

    def __init__(
        self,
        reader: Reader,
        pulse: Pulse,
        resolved: Resolved,
        replay: Replay,
        failed: Callable[[Submission], None],
        *,
        entries_max: int,
        waiting_max: int,
    ) -> None:
        self._reader = reader
        self._pulse = pulse
        self._resolved = resolved
        self._replay = replay
        self._failed = failed
        self._waiting_max = waiting_max
        self._remembered = RememberedCards(entries_max)
        self._waiting: list[Submission] = []
        self._asked: list[Submission] = []
        self._wanted = asyncio.Event()
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Return whether nothing is being looked up."""
        return not self._waiting and not self._asked

    def known(self, token: bytes) -> int | None:
        """Return the remembered account of a token."""
        return self._remembered.get(token)

    def forget(self, token: bytes) -> None:
        """Look the token up in PostgreSQL the next time."""
        self._remembered.forget(token)

    def resolve(self, submission: Submission) -> bool:
        """Call back with the account (None = unknown card) when PostgreSQL has told it; False when too many wait.

        A request that was answered while its card led elsewhere gets that answer instead, by the call-back `replay`.
        While PostgreSQL is away it fails at once.
        """
        if self._stopped or self._pulse.away:
            self._failed(submission)
            return True
        if len(self._waiting) >= self._waiting_max:
            return False
        self._waiting.append(submission)
        self._wanted.set()
        return True

    async def run(self) -> None:
        """Look tokens up until cancelled; from then on every look-up fails."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if not self._waiting:
                    continue
                self._asked, self._waiting = self._waiting, []
                try:
                    rows = await self._reader.cards(list({s.token for s in self._asked}))
                    past = await past_of(self._reader, (s for s in self._asked if has_past(rows.get(s.token))))
                except JournalDown:
                    # The others would only learn the same, one time-out later.
                    self._asked, self._waiting = [*self._asked, *self._waiting], []
                    self._fail_asked()
                else:
                    self._remember(rows)
                    asked, self._asked = self._asked, []
                    for submission in asked:
                        self._tell(submission, rows, past)
                    self._release()
        finally:
            self._stopped = True
            self._asked, self._waiting = [*self._asked, *self._waiting], []
            self._fail_asked()

    def _tell(self, submission: Submission, rows: Mapping[bytes, CardRow], past: Past) -> None:
        row, stored, home = rows.get(submission.token), past.stored.get(submission.request_id), past.home(submission)
        account = None if row is None else row.account
        submission.by_former_card = home is not None and home != account
        if stored is not None:
            self._replay(submission, stored)
        else:
            self._resolved(submission, home if submission.by_former_card else account)

    def _release(self) -> None:
        """Let those go who came during a look-up that tells about them, too.

        Whoever comes after them finds the token remembered, and must not overtake them. One that is resolved afresh
        waits on: it wants to know what was so after it had come.
        """
        waiting, self._waiting = self._waiting, []
        for submission in waiting:
            account = None if submission.resolved_afresh else self.known(submission.token)
            if account is None:
                self._waiting.append(submission)
            else:
                self._resolved(submission, account)

    def _fail_asked(self) -> None:
        asked, self._asked = self._asked, []
        for submission in asked:
            self._failed(submission)

    def _remember(self, rows: dict[bytes, CardRow]) -> None:
        for token, row in rows.items():
            if row.status != _ISSUED and not row.former:
                self._remembered.keep(token, row.account)
