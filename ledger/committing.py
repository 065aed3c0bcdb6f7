"""The second half of a pipeline: decided batches are journaled in order, and every answer leaves when it may.

An approval leaves when its entries are committed. A read or a decline that rests on something uncommitted waits for
that commit. A replay, and a decline of an id that Redis may have forgotten, is answered from the journal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from ledger.books import Books
from ledger.entries import continuous
from ledger.hot_store import Decided, HotStore
from ledger.journal.reader import Stored
from ledger.journal.writer import JournalDown, Writer
from ledger.limits import Limits
from ledger.operations import Outcome
from ledger.services import Services
from ledger.submission import Refusal, Submission
from ledger.waiting_room import WaitingRoom

log = structlog.get_logger(__name__)

#: A submission and the decision's result for it; None when there is no decision that counts.
Decision = tuple[Submission, Any]


@dataclass(slots=True)
class Group:
    """One decided batch: what becomes entries, what is answered after the commit, what the journal must tell."""

    decided: Decided
    #: When the batch was formed, in seconds of the monotonic clock.
    formed_at: float
    effects: list[Submission] = field(default_factory=list)
    plain: list[Decision] = field(default_factory=list)
    lookups: list[Decision] = field(default_factory=list)
    size: int = 0

    def submissions(self) -> list[Submission]:
        """Return everybody who waits for this group and has no answer yet."""
        return [*self.effects, *(s for s, _ in self.plain), *(s for s, _ in self.lookups)]


class Committer:
    """Journals the groups of one partition, in order, through its one writer."""

    def __init__(
        self,
        partition: int,
        mark: int,
        writer: Writer,
        hot_store: HotStore,
        services: Services,
        limits: Limits,
        books: Books,
        room: WaitingRoom,
    ) -> None:
        self.committed_mark = mark
        self.wanted_elsewhere = False
        self._partition = partition
        self._writer = writer
        self._hot_store = hot_store
        self._services = services
        self._clock = services.clock
        self._limits = limits
        self._books = books
        self._waiting_room = room
        self._groups: deque[Group] = deque()
        self._size = 0
        self._decided = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._progress = asyncio.Event()
        self._heard_at = self._clock.monotonic_s()
        self._checked_at = self._heard_at

    def add(self, group: Group) -> None:
        """Take a decided batch."""
        group.size = _size(group)
        self._size += group.size
        self._groups.append(group)
        self._decided.set()

    async def room(self) -> None:
        """Return when there is room for more that is decided and not committed."""
        while self._size >= self._limits.uncommitted_entries_max:
            self._progress.clear()
            await self._progress.wait()

    @property
    def idle(self) -> bool:
        """Return whether everything decided is committed and answered."""
        return not self._groups

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest batch that is decided and not committed, in seconds."""
        return self._clock.monotonic_s() - self._groups[0].formed_at if self._groups else 0.0

    def leftovers(self) -> list[Submission]:
        """Return everybody who has no answer although a decision was made."""
        return [submission for group in self._groups for submission in group.submissions()]

    def answer(self, submission: Submission, body: bytes, *, replayed: bool = False) -> None:
        """Let an answer leave."""
        self._books.end(submission)
        submission.reply_to.answer(submission.request_id, body, replayed=replayed)

    def answer_plain(self, submission: Submission, result: Any, greeting: str | None = None) -> None:
        """Let the answer of a decision without effect leave."""
        body = self._services.renderer.decided(
            submission.op, submission.network_id, result[1], result[2], result[3], result[4], result[5], greeting
        )
        self.answer(submission, body)

    async def run(self) -> None:
        """Journal until cancelled. Raises JournalDown and Fenced."""
        try:
            await self._journal()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    async def _journal(self) -> None:
        while True:
            if not self._groups:
                await self._wait()
                if not self._groups:
                    await self._be_heard()
                    continue
            groups = list(self._groups)
            await self._commit(groups[: continuous([group.decided for group in groups])])
            # Commits are heard as well, but only this question tells that another worker asks for the partition.
            if self._clock.monotonic_s() - self._checked_at > self._limits.owner_check_s:
                await self._be_heard()

    async def _wait(self) -> None:
        """Return when something was decided, or after `owner_check_s` at the latest."""
        self._decided.clear()
        if self._alarm is None:
            # It outlives this wait, so that there is one in so many seconds and not one for each batch.
            self._alarm = asyncio.get_running_loop().call_later(self._limits.owner_check_s, self._ring)
        await self._decided.wait()

    def _ring(self) -> None:
        self._alarm = None
        self._decided.set()

    async def begin(self, *, standby: bool) -> None:
        """Tell PostgreSQL that this owner decides from now on. Raises JournalDown and Fenced."""
        await self._ask(partial(self._writer.begin, standby=standby))

    async def _be_heard(self) -> None:
        """PostgreSQL ends silent sessions, so speak; and see whether the partition should move to another worker."""
        await self._ask(self._writer.wanted_by)

    async def _ask(self, wanted_by: Callable[[], Awaitable[str]]) -> None:
        asked_at = self._clock.monotonic_s()
        with self._services.pulse.call():
            self.wanted_elsewhere = bool(await wanted_by())
        self._heard_at = self._checked_at = asked_at

    def expect_lease(self) -> None:
        """Raise JournalDown when the partition may have another owner by now.

        What changes something is fenced by its commit. What only reads must not be answered by a former owner, and
        Redis does not tell one when it or its heir has no Redis; the heir then waits until this lease has run out.
        """
        silence_s = self._clock.monotonic_s() - self._heard_at
        if self._writer.disconnected or silence_s > self._limits.lease_s:
            raise JournalDown("the session that holds the partition's lock may have ended")

    async def _commit(self, groups: list[Group]) -> None:
        journaling = self._services.entry_writer.journaling(group.decided for group in groups)
        if journaling.batch.accounts:
            started = self._clock.monotonic_s()
            with self._services.pulse.call():
                vetoed = await self._writer.commit(journaling.batch, self._forget)
            self._heard_at = started
            self.committed_mark = journaling.batch.mark
            seconds = self._clock.monotonic_s() - started
            self._services.statistics.committed(len(journaling.batch.entries), seconds, len(vetoed))
            for account in vetoed:
                log.warning("veto", partition=self._partition, account=account)
                self._waiting_room.distrust(account)
        # Whoever is answered leaves the group in the same breath: what waits below may fail, and then everybody who is
        # still in a group is asked for again.
        self._answer_effects(groups, journaling.answers)
        await self._answer_plain(groups)
        await self._look_up(groups)
        now = self._clock.monotonic_s()
        for group in groups:
            self._groups.popleft()
            self._size -= group.size
            self._books.committed(group.decided.changes)
            self._services.statistics.answered(now - group.formed_at)
        self._progress.set()

    async def _forget(self, accounts: set[int]) -> None:
        await self._hot_store.forget(self._partition, accounts)

    def _answer_effects(self, groups: list[Group], answers: list[bytes]) -> None:
        """Answer what is journaled now; what was vetoed is looked up."""
        bodies = iter(answers)
        for group in groups:
            effects, group.effects = group.effects, []
            for submission in effects:
                body = next(bodies)
                if self._waiting_room.distrusts(submission.account):
                    group.lookups.append((submission, None))
                else:
                    self.answer(submission, body)

    async def _answer_plain(self, groups: list[Group]) -> None:
        """Answer decisions without effect; what rests on something vetoed is looked up."""
        greeted = [s.account for group in groups for s, result in group.plain if _greets(s, result)]
        names = await self._services.greetings.names(greeted) if greeted else {}
        self.expect_lease()
        for group in groups:
            plain, group.plain = group.plain, []
            for submission, result in plain:
                if self._waiting_room.distrusts(submission.account):
                    group.lookups.append((submission, None))
                else:
                    name = names.get(submission.account) if _greets(submission, result) else None
                    self.answer_plain(submission, result, name)

    async def _look_up(self, groups: list[Group]) -> None:
        """Answer from the journal what is there; of the rest a decline stands, and anything else is decided anew."""
        request_ids = [submission.request_id for group in groups for submission, _ in group.lookups]
        if not request_ids:
            return
        stored = await self._services.reader.stored(request_ids)
        merged = await self._merged(groups, stored)
        self.expect_lease()
        for group in groups:
            lookups, group.lookups = group.lookups, []
            for submission, result in lookups:
                found = stored.get(submission.request_id)
                if found is not None:
                    self._replay(submission, found, merged)
                elif result is not None and not self._waiting_room.distrusts(submission.account):
                    self.answer_plain(submission, result)
                else:
                    self._books.end(submission)
                    self._again(submission)

    async def _merged(self, groups: list[Group], stored: Mapping[bytes, Stored]) -> Mapping[int, int]:
        """Return what accounts have become part of, where something is journaled for another than is asked for."""
        differing: set[int] = set()
        for group in groups:
            for submission, _ in group.lookups:
                found = stored.get(submission.request_id)
                if found is not None and found.account != submission.account:
                    differing |= {found.account, submission.account}
        return await self._services.reader.merged_into(list(differing)) if differing else {}

    def _replay(self, submission: Submission, stored: Stored, merged: Mapping[int, int]) -> None:
        same = stored.fingerprint is None or stored.fingerprint == submission.fingerprint
        account, asked = stored.account, submission.account
        if same and merged.get(account, account) == merged.get(asked, asked):
            self._services.statistics.replayed()
            self.answer(submission, stored.answer, replayed=True)
            return
        self._books.end(submission)
        if same and not submission.resolved_afresh:
            # Its card may lead to that account by now, and another worker may have heard of it before this one.
            self._services.resolve_afresh(submission)
        else:
            self.refuse(submission, Refusal.ID_REUSED)

    def _again(self, submission: Submission) -> None:
        """Decide anew. The card may belong to another account by now, so the submission takes its whole way again."""
        submission.attempts += 1
        if submission.attempts > self._limits.attempts_max:
            self.refuse(submission, Refusal.UNAVAILABLE)
        else:
            self._services.resolve_afresh(submission)

    def refuse(self, submission: Submission, refusal: Refusal) -> None:
        """Let a refusal leave."""
        submission.reply_to.refuse(submission.request_id, refusal, self._limits.busy_retry_after_ms)


def _size(group: Group) -> int:
    entries = sum(len(result[6]) for result in group.decided.results if len(result) > 6)  # noqa: PLR2004 - see shell.lua
    return entries + len(group.plain) + len(group.lookups)


def _greets(submission: Submission, result: Any) -> bool:
    return bool(submission.greeting and result[1] == Outcome.APPROVED)
