"""One epoch of a partition at work: batch after batch is decided in Redis, while earlier ones are journaled.

Batches form by themselves: what arrives while one is under way is the next one, and nothing waits when all is quiet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import structlog

from ledger.books import Books
from ledger.committing import Committer, Group
from ledger.hot_store import ACCOUNTS_MAX, Decided, HotStore, PartitionHead, ScriptFailed
from ledger.journal.writer import Writer
from ledger.limits import Limits
from ledger.operations import Operation, Outcome
from ledger.positional import positional
from ledger.services import Services
from ledger.submission import Refusal, Submission
from ledger.truth import NEED_TRUTH, Truth
from ledger.waiting_room import WaitingRoom

# What ledger/lua/shell.lua says of an item.
_DECIDED, _REPLAY = 0, 1
#: An issued card moves to another account when it replaces a lost one, so these declines ask PostgreSQL where it leads.
_CARD_MAY_HAVE_MOVED = frozenset({Outcome.UNKNOWN_CARD, Outcome.CARD_INACTIVE, Outcome.ORIGINAL_OTHER_CARD})
_SETTLING_TERMS = (0,) * 9

log = structlog.get_logger(__name__)


class Pipeline:
    """Decides and journals one partition until an engine fails or the partition is handed over."""

    def __init__(
        self,
        partition: int,
        head: PartitionHead,
        writer: Writer,
        hot_store: HotStore,
        services: Services,
        limits: Limits,
    ) -> None:
        self.hot_store = hot_store
        self.head = head
        self._partition = partition
        self._services = services
        self._limits = limits
        self._queue: deque[Submission] = deque()
        self._in_flight: list[Submission] = []
        self._one_by_one = 0
        self._waited_s = 0.0
        self._stopped = False
        self._work = asyncio.Event()
        self._waiting_room = WaitingRoom(
            services.truth_reader, limits, services.statistics, self._work.set, self._refuse_unavailable
        )
        self._books = Books(self._waiting_room.freed)
        self._committer = Committer(
            partition, head.mark, writer, hot_store, services, limits, self._books, self._waiting_room
        )

    @property
    def backlog(self) -> int:
        """Return how many submissions wait to be decided."""
        return len(self._queue) + len(self._waiting_room)

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest batch that is decided and not committed, in seconds."""
        return self._committer.lag_s

    @property
    def full(self) -> bool:
        """Return whether a submission would be refused as BUSY."""
        # So much that it could not be answered in time would be work for nothing.
        too_late = self._waited_s > self._limits.queue_wait_max_s and bool(self._queue)
        return too_late or len(self._queue) + len(self._waiting_room) >= self._limits.queue_requests_max

    @property
    def wanted_elsewhere(self) -> bool:
        """Return whether the worker that this partition belongs to by plan asks for it."""
        return self._committer.wanted_elsewhere

    @property
    def idle(self) -> bool:
        """Return whether everything submitted is answered."""
        return not self._queue and self._waiting_room.empty and self._committer.idle and self._books.idle

    @property
    def at_rest(self) -> bool:
        """Return whether everything decided is committed and answered, whatever waits to be decided."""
        return not self._in_flight and self._committer.idle

    def stop_deciding(self) -> None:
        """Decide nothing more; what is decided is committed and answered."""
        self._stopped = True
        self._work.set()

    async def begin(self) -> None:
        """Tell PostgreSQL that this owner decides from now on. Raises JournalDown and Fenced."""
        await self._committer.begin(standby=self.hot_store is not self._services.hot_store)

    def submit(self, submission: Submission) -> None:
        """Take a submission, or refuse it as BUSY when too many wait already."""
        if self.full:
            self._committer.refuse(submission, Refusal.BUSY)
        else:
            self.enqueue(submission)

    def enqueue(self, submission: Submission) -> None:
        """Take a submission whatever waits: it was accepted before."""
        # All take the queue, also those that need the truth: a STATUS must not overtake the request that it asks about.
        if not self._queue:
            self._work.set()
        submission.queued_at = self._services.clock.monotonic_s()
        self._queue.append(submission)

    async def run(self) -> None:
        """Work until cancelled; raises a group of HotStoreDown, HeadMismatch, JournalDown or Fenced."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._decide_forever(), name=f"decide-{self._partition}")
            group.create_task(self._committer.run(), name=f"commit-{self._partition}")
            group.create_task(self._waiting_room.run(self._books), name=f"truth-{self._partition}")
            group.create_task(self._settle_forever(), name=f"settle-{self._partition}")

    def leftovers(self) -> list[Submission]:
        """Return all that has no answer when `run` has ended; what may have been decided counts as an attempt."""
        in_doubt = [*self._committer.leftovers(), *self._in_flight]
        for submission in in_doubt:
            submission.attempts += 1
        return [*in_doubt, *self._waiting_room.leftovers(), *self._queue]

    # ---- deciding

    async def _decide_forever(self) -> None:
        while not self._stopped:
            if not self._queue and not self._waiting_room.has_truth:
                self._work.clear()
                await self._work.wait()
            await self._committer.room()
            if self._stopped:
                return
            batch = _Batch(self._services)
            self._fill(batch, 1 if self._one_by_one else min(self._limits.batch_requests_max, ACCOUNTS_MAX))
            if batch.size:
                await self._decide(batch)

    def _fill(self, batch: _Batch, size_max: int) -> None:
        now = batch.formed_at
        self._waited_s = now - self._queue[0].queued_at if self._queue else 0.0
        while self._waiting_room.has_truth and batch.size < size_max:
            truth, late = self._waiting_room.take()
            batch.load(truth)
            room = max(1, size_max - batch.size)
            for submission in truth.submissions[:room]:
                if self._in_time(submission, now):
                    self._books.begin(submission)
                    batch.add(submission, truth)
            self._queue.extendleft(reversed([*truth.submissions[room:], *late]))
        while self._queue and batch.size < size_max:
            submission = self._queue.popleft()
            if submission.account in self._waiting_room or submission.op in NEED_TRUTH:
                self._waiting_room.add(submission)
            elif self._in_time(submission, now):
                self._books.begin(submission)
                batch.add(submission, None)

    def _in_time(self, submission: Submission, now: float) -> bool:
        if submission.deadline >= now:
            return True
        # After a first attempt nobody can say any more that it was not executed.
        self._committer.refuse(submission, Refusal.UNAVAILABLE if submission.attempts else Refusal.EXPIRED)
        return False

    async def _decide(self, batch: _Batch) -> None:
        self._in_flight = batch.submissions
        try:
            decided = await self.hot_store.decide(
                self._partition, self.head, self._committer.committed_mark, batch.accounts, batch.packable()
            )
        except ScriptFailed as failure:
            self._isolate(batch, failure)
            return
        self._one_by_one = max(0, self._one_by_one - batch.size)
        self._committer.expect_lease()
        self.head = PartitionHead(self.head.epoch, self.head.generation, decided.mark)
        self._services.statistics.decided(len(batch.submissions))
        self._sort(decided, batch)
        self._in_flight = []

    def _isolate(self, batch: _Batch, failure: ScriptFailed) -> None:
        """Find the one request, or state, that the script fails on: it must not take its neighbours along."""
        self._in_flight = []
        for submission in batch.submissions:
            self._books.end(submission)
        if max(len(batch.submissions), len(batch.loads)) > 1:
            self._one_by_one = batch.size
            for account in batch.loaded:
                self._waiting_room.reload(account)
            self._queue.extendleft(reversed(batch.submissions))
            return
        self._one_by_one = max(0, self._one_by_one - batch.size)
        log.critical("decision failed", partition=self._partition, accounts=batch.accounts, error=str(failure))
        for submission in batch.submissions:
            self._refuse_unavailable(submission)
            # It may be what Redis holds that the script fails on, so begin again from the truth.
            self._waiting_room.reload(submission.account)

    def _sort(self, decided: Decided, batch: _Batch) -> None:
        """Send each result on its way: an answer now, after the commit, after a look-up, or another decision."""
        group = Group(decided, batch.formed_at)
        self._books.decided(decided.changes)
        bounced: list[Submission] = []
        for submission, result in zip(batch.submissions, decided.results, strict=True):
            status = result[0]
            if status == _REPLAY:
                group.lookups.append((submission, None))
            elif status != _DECIDED:
                bounced.append(submission)
            elif result[6]:
                group.effects.append(submission)
            elif result[1] in _CARD_MAY_HAVE_MOVED and not submission.resolved_afresh:
                self._books.end(submission)
                self._services.resolve_afresh(submission)
            elif result[8]:
                group.lookups.append((submission, result))
            elif submission.greeting or not self._stands(submission.account):
                group.plain.append((submission, result))
            else:
                self._committer.answer_plain(submission, result)
        if decided.changes or group.submissions():
            self._committer.add(group)
        else:
            self._services.statistics.answered(self._services.clock.monotonic_s() - batch.formed_at)
        # Cold, or in need of context, or with one that an earlier request of the batch has outdated. That is no
        # attempt: every round decides at least the first of an account for good, and each has its deadline.
        for submission in reversed(bounced):
            self._books.end(submission)
            self._waiting_room.add_first(submission)

    def _stands(self, account: int) -> bool:
        """Return whether what Redis showed of an account is in the journal, as far as anybody knows.

        A decision that was on its way while PostgreSQL vetoed an earlier one may rest on that.
        """
        return not self._books.has_uncommitted(account) and not self._waiting_room.distrusts(account)

    # ---- what nobody asks for

    async def _settle_forever(self) -> None:
        """Let expired holds and lots become entries even if nobody asks for the account."""
        while True:
            await asyncio.sleep(self._limits.settle_interval_s)
            clock = self._services.clock
            due = await self._services.reader.due_accounts(
                clock.now_ms(), self._limits.partitions, self._partition, self._limits.settle_accounts_max
            )
            deadline = clock.monotonic_s() + self._limits.settle_interval_s
            for account in due:
                self.submit(_settling(account, deadline))

    def _refuse_unavailable(self, submission: Submission) -> None:
        self._committer.refuse(submission, Refusal.UNAVAILABLE)


class _Batch:
    """One script call in the making: positional, as ledger/lua/shell.lua reads it."""

    def __init__(self, services: Services) -> None:
        self.submissions: list[Submission] = []
        self.loads: list[Any] = []
        self.loaded: list[int] = []
        self.items: list[Any] = []
        self.formed_at = services.clock.monotonic_s()
        self._now_ms = services.clock.now_ms()
        self._today = services.days().day(self._now_ms)
        self._utc_offset_ms = services.days().utc_offset_ms(self._now_ms)
        self._indexes: dict[int, int] = {}
        self._terms: dict[tuple[int, ...], int] = {}

    @property
    def size(self) -> int:
        """Return the number of requests and loads together."""
        return len(self.items) + len(self.loads)

    @property
    def accounts(self) -> list[int]:
        """Return the accounts in the order of their indexes, which begin with 1."""
        return list(self._indexes)

    def load(self, truth: Truth) -> None:
        """Put an account into Redis as PostgreSQL has it."""
        self.loaded.append(truth.account)
        self.loads.append((self._index(truth.account), truth.head.link, truth.head.state))

    def add(self, submission: Submission, truth: Truth | None) -> None:
        """Add a request, with what PostgreSQL told for it."""
        context: Any = truth.contexts.get(submission.request_id, False) if truth else False
        new_card_state = truth.new_card_states.get(submission.request_id, 0) if truth else 0
        request = positional(submission, self._now_ms, self._today, context, new_card_state)
        terms = self._terms.setdefault(submission.terms, len(self._terms) + 1)
        self.items.append((self._index(submission.account), terms, request))
        self.submissions.append(submission)

    def packable(self) -> list[Any]:
        """Return the batch for the script."""
        return [self._utc_offset_ms, list(self._terms), self.loads, self.items]

    def _index(self, account: int) -> int:
        return self._indexes.setdefault(account, len(self._indexes) + 1)


class _Nobody:
    """Takes the answers that nobody waits for: the account stays due, and is found again."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Do nothing."""

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Do nothing."""


def _settling(account: int, deadline: float) -> Submission:
    return Submission(
        op=Operation.SETTLE,
        request_id=b"",
        token=b"",
        terminal_id=0,
        partner_id=0,
        network_id=0,
        fingerprint=b"",
        terms=_SETTLING_TERMS,
        deadline=deadline,
        reply_to=_Nobody(),
        account=account,
    )
