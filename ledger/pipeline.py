"""One epoch of a partition at work: submissions are decided in Redis batch after batch, while the batch before is journaled.

Batches form by themselves: what arrives while one is under way is the next one. An answer leaves when what it rests on is
committed. Whatever Redis alone cannot decide (cold accounts, earlier requests, vetoes) waits for the truth from PostgreSQL;
while an account waits, nothing else of it is decided, so the truth cannot go stale.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from ledger.entries import EntryWriter, Memo, continuous
from ledger.greetings import Greetings
from ledger.hot_store import Decided, HotStore, PartitionHead, ScriptFailed
from ledger.journal.reader import Reader, Stored
from ledger.journal.writer import Writer
from ledger.limits import Limits
from ledger.operations import Operation, Outcome
from ledger.rendering import Renderer
from ledger.statistics import Statistics
from ledger.submission import Refusal, Submission
from ledger.truth import NEED_TRUTH, Truth, TruthReader

_DECIDED, _REPLAY, _COLD = 0, 1, 4
_CONTEXT_FREE = False
#: An issued card moves to another account when it replaces a lost one, so these declines ask PostgreSQL where it leads.
_CARD_MAY_HAVE_MOVED = frozenset({Outcome.UNKNOWN_CARD, Outcome.CARD_INACTIVE})

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Services:
    """What a pipeline works with; shared by all partitions of a process."""

    hot_store: HotStore
    reader: Reader
    truth: TruthReader
    renderer: Renderer
    entry_writer: EntryWriter
    greetings: Greetings
    statistics: Statistics
    now_ms: Callable[[], int]
    business_day: Callable[[int], int]
    utc_offset_ms: Callable[[int], int]
    resolve_afresh: Callable[[Submission], None]


@dataclass(slots=True)
class _Group:
    """One decided batch on its way to the commit: what becomes an entry, what is answered after it, what must be looked up."""

    decided: Decided
    effects: list[Submission] = field(default_factory=list)
    plain: list[tuple[Submission, Any]] = field(default_factory=list)
    lookups: list[tuple[Submission, Any]] = field(default_factory=list)


class Pipeline:
    """Decides and journals one partition until an engine fails or the partition is handed over."""

    def __init__(self, partition: int, head: PartitionHead, writer: Writer, services: Services, limits: Limits) -> None:
        self._partition = partition
        self._head = head
        self._writer = writer
        self._services = services
        self._limits = limits
        self._queue: deque[Submission] = deque()
        self._waiting: dict[int, list[Submission]] = {}
        self._truths: deque[Truth] = deque()
        self._groups: deque[_Group] = deque()
        self._under_way: Counter[int] = Counter()
        self._uncommitted: Counter[int] = Counter()
        self._uncommitted_entries = 0
        self._committed_mark = head.mark
        self._held_back = 0
        self._work = asyncio.Event()
        self._decided = asyncio.Event()
        self._truth_wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._wanted_checked = time.monotonic()
        self._one_by_one = False
        self._in_flight: list[Submission] = []
        self.handed_over = False

    @property
    def backlog(self) -> int:
        """Return how many submissions wait to be decided."""
        return len(self._queue) + self._held_back

    def submit(self, submission: Submission) -> None:
        """Take a submission, or refuse it as BUSY when too many wait already."""
        if self.backlog >= self._limits.queue_requests_max:
            submission.reply_to.refuse(submission.request_id, Refusal.BUSY, self._limits.busy_retry_after_ms)
            return
        self._enqueue(submission)

    def take_over(self, submissions: list[Submission]) -> None:
        """Take what an earlier epoch left in doubt, ahead of anything new."""
        for submission in submissions:
            self._enqueue(submission)

    async def run(self) -> None:
        """Work until cancelled; raises HotStoreDown, HeadMismatch, JournalDown or Fenced as soon as one of them happens."""
        async with asyncio.TaskGroup() as group:
            for work in (self._decide_forever, self._commit_forever, self._read_truth_forever, self._settle_forever):
                group.create_task(work(), name=f"{work.__name__.strip('_')}-{self._partition}")

    async def drained(self) -> None:
        """Return when nothing is queued, under way or uncommitted."""
        while self._queue or self._waiting or self._groups or self._under_way:
            self._idle.clear()
            await self._idle.wait()

    def leftovers(self) -> list[Submission]:
        """Return everything that has no answer yet, for the next epoch; call it when `run` has ended."""
        decided = [s for g in self._groups for s in (*g.effects, *(p[0] for p in g.plain), *(p[0] for p in g.lookups))]
        truths = [s for truth in self._truths for s in truth.submissions]
        # A truth's submissions stay listed as waiting until they are decided, so the two overlap.
        waiting = [s for submissions in self._waiting.values() for s in submissions if s not in truths]
        everything = [*decided, *self._in_flight, *truths, *waiting, *self._queue]
        for submission in (*decided, *self._in_flight):
            submission.attempts += 1
        return everything

    # ---- deciding

    def _enqueue(self, submission: Submission) -> None:
        waiting = self._waiting.get(submission.account)
        if waiting is not None:
            waiting.append(submission)
            self._held_back += 1
        elif submission.op in NEED_TRUTH:
            self._hold_back(submission)
        else:
            self._queue.append(submission)
            self._work.set()

    def _hold_back(self, submission: Submission) -> None:
        self._waiting.setdefault(submission.account, []).append(submission)
        self._held_back += 1
        self._truth_wanted.set()

    def _again(self, submission: Submission) -> None:
        """Decide once more, on the truth from PostgreSQL; after too many times the doubt is the register's to settle."""
        submission.attempts += 1
        if submission.attempts > self._limits.attempts_max:
            self._refuse(submission, Refusal.UNAVAILABLE)
        else:
            self._hold_back(submission)

    async def _decide_forever(self) -> None:
        while True:
            if not self._queue and not self._truths:
                self._work.clear()
                await self._work.wait()
            while self._uncommitted_entries >= self._limits.uncommitted_entries_max:
                self._room.clear()
                await self._room.wait()
            accounts, loads, items = self._next_batch()
            if items or loads:
                await self._decide(accounts, loads, items)

    def _next_batch(self) -> tuple[list[int], list[Any], list[tuple[Submission, int, Any]]]:
        """Return the accounts, loads and items (submission, account's index, request) of the next batch."""
        indexes: dict[int, int] = {}
        loads: list[Any] = []
        items: list[tuple[Submission, int, Any]] = []
        now_ms = self._services.now_ms()
        today = self._services.business_day(now_ms)
        now = time.monotonic()
        size_max = 1 if self._one_by_one else self._limits.batch_requests_max
        while self._truths and len(items) < size_max:
            truth = self._truths.popleft()
            index = indexes.setdefault(truth.account, len(indexes) + 1)
            loads.append((index, truth.head.link, truth.head.state))
            late = self._waiting.pop(truth.account)[len(truth.submissions) :]
            self._held_back -= len(truth.submissions) + len(late)
            for submission in truth.submissions:
                if self._in_time(submission, now):
                    context = truth.contexts.get(submission.request_id, _CONTEXT_FREE)
                    new_card_state = truth.new_card_states.get(submission.request_id, 0)
                    items.append((submission, index, _request(submission, now_ms, today, context, new_card_state)))
                    self._under_way[truth.account] += 1
            for submission in late:
                self._enqueue(submission)
        while self._queue and len(items) < size_max:
            submission = self._queue.popleft()
            if submission.account in self._waiting:
                self._enqueue(submission)
            elif self._in_time(submission, now):
                index = indexes.setdefault(submission.account, len(indexes) + 1)
                items.append((submission, index, _request(submission, now_ms, today, _CONTEXT_FREE, 0)))
                self._under_way[submission.account] += 1
        return list(indexes), loads, items

    def _in_time(self, submission: Submission, now: float) -> bool:
        if submission.deadline >= now:
            return True
        # After a first attempt nobody can say any more that it was not executed.
        self._refuse(submission, Refusal.UNAVAILABLE if submission.attempts else Refusal.EXPIRED)
        return False

    async def _decide(self, accounts: list[int], loads: list[Any], items: list[tuple[Submission, int, Any]]) -> None:
        terms: dict[tuple[int, ...], int] = {}
        packed = [(index, terms.setdefault(s.terms, len(terms) + 1), request) for s, index, request in items]
        offset = self._services.utc_offset_ms(self._services.now_ms())
        batch = [offset, list(terms), loads, packed]
        submissions = [s for s, _, _ in items]
        self._in_flight = submissions
        try:
            decided = await self._services.hot_store.decide(
                self._partition, self._head, self._committed_mark, accounts, batch
            )
        except ScriptFailed:
            self._isolate(submissions)
            return
        self._in_flight = []
        self._one_by_one = self._one_by_one and bool(self._queue)
        self._head = PartitionHead(self._head.epoch, self._head.generation, decided.mark)
        self._services.statistics.decided(len(items))
        self._sort(decided, submissions)

    def _isolate(self, submissions: list[Submission]) -> None:
        """Find the one request that the script fails on: that is a bug, and must not take its neighbours along."""
        self._in_flight = []
        for submission in submissions:
            self._under_way_less(submission)
        if len(submissions) == 1:
            log.critical("decision failed", request_id=submissions[0].request_id.hex(), op=submissions[0].op)
            self._refuse(submissions[0], Refusal.UNAVAILABLE)
            return
        self._one_by_one = True
        for submission in submissions:
            self._enqueue(submission)

    def _sort(self, decided: Decided, submissions: list[Submission]) -> None:
        """Send each result on its way: an answer now, after the commit, after a look-up, or another decision."""
        group = _Group(decided)
        for change in decided.changes:
            self._uncommitted[change[0]] += 1
        for submission, result in zip(submissions, decided.results, strict=True):
            status = result[0]
            if status == _DECIDED and result[6]:
                group.effects.append(submission)
                self._uncommitted_entries += len(result[6])
            elif status == _REPLAY or (status == _DECIDED and result[8]):
                group.lookups.append((submission, result))
            elif status == _DECIDED and result[1] in _CARD_MAY_HAVE_MOVED and not submission.resolved_afresh:
                self._under_way_less(submission)
                self._services.resolve_afresh(submission)
            elif status == _DECIDED:
                if submission.account in self._uncommitted or submission.greeting:
                    group.plain.append((submission, result))
                else:
                    self._answer(submission, self._render(submission, result, None), replayed=False)
            else:
                self._under_way_less(submission)
                if status == _COLD:
                    self._hold_back(submission)
                else:
                    self._again(submission)
        if group.effects or group.plain or group.lookups:
            self._groups.append(group)
            self._decided.set()

    # ---- committing

    async def _commit_forever(self) -> None:
        while True:
            if not self._groups:
                self._decided.clear()
                try:
                    await asyncio.wait_for(self._decided.wait(), self._limits.owner_check_s)
                except TimeoutError:
                    await self._check_wanted()
                    continue
            groups = list(self._groups)
            groups = groups[: continuous([g.decided for g in groups])]
            await self._commit(groups)
            if time.monotonic() - self._wanted_checked > self._limits.owner_check_s:
                await self._check_wanted()

    async def _check_wanted(self) -> None:
        """Be heard by PostgreSQL, which ends silent sessions, and see whether the partition should move to another worker."""
        self._wanted_checked = time.monotonic()
        wanted_by = await self._writer.wanted_by()
        if wanted_by and not self.handed_over:
            self.handed_over = True
            log.info("partition wanted elsewhere", partition=self._partition, by=wanted_by)

    async def _commit(self, groups: list[_Group]) -> None:
        journaling = self._services.entry_writer.journaling(g.decided for g in groups)
        vetoed: set[int] = set()
        if journaling.batch.accounts:
            started = time.monotonic()
            vetoed = await self._writer.commit(journaling.batch)
            self._committed_mark = journaling.batch.mark
            self._services.statistics.committed(len(journaling.batch.entries), time.monotonic() - started, len(vetoed))
        unsure = self._answer_effects(groups, journaling.answers, vetoed)
        for group in groups:
            for submission, result in group.plain:
                if submission.account in vetoed:
                    unsure.append((submission, None))
                elif not submission.greeting:
                    self._answer(submission, self._render(submission, result, None), replayed=False)
            unsure.extend(group.lookups)
        await self._answer_greeted([p for g in groups for p in g.plain if p[0].greeting and p[0].account not in vetoed])
        if unsure:
            await self._look_up(unsure)
        for account in vetoed:
            log.warning("veto", partition=self._partition, account=account)
            self._waiting.setdefault(account, [])
            self._truth_wanted.set()
        for _ in groups:
            self._groups.popleft()
        self._forget(groups)

    def _answer_effects(
        self, groups: list[_Group], answers: list[bytes], vetoed: set[int]
    ) -> list[tuple[Submission, Any]]:
        """Answer what is journaled now; return the submissions whose entries were vetoed."""
        refused: list[tuple[Submission, Any]] = []
        effects = (s for g in groups for s in g.effects)
        for submission, body in zip(effects, answers, strict=True):
            if submission.account in vetoed:
                refused.append((submission, None))
            else:
                self._answer(submission, body, replayed=False)
        return refused

    async def _look_up(self, unsure: list[tuple[Submission, Any]]) -> None:
        """Answer from the journal what is journaled already; the rest is a decline that stands, or is decided anew."""
        stored = await self._services.reader.stored([s.request_id for s, _ in unsure])
        for submission, result in unsure:
            found = stored.get(submission.request_id)
            if found is not None:
                self._replay(submission, found)
            elif result is not None and result[0] == _DECIDED:
                self._answer(submission, self._render(submission, result, None), replayed=False)
            else:
                # Vetoed. Its card may belong to another account by now, so it takes the whole way again.
                self._under_way_less(submission)
                submission.attempts += 1
                if submission.attempts > self._limits.attempts_max:
                    self._refuse(submission, Refusal.UNAVAILABLE)
                else:
                    self._services.resolve_afresh(submission)

    def _replay(self, submission: Submission, stored: Stored) -> None:
        same = stored.fingerprint is None or stored.fingerprint == submission.fingerprint
        if stored.account == submission.account and same:
            self._services.statistics.replayed()
            self._answer(submission, stored.answer, replayed=True)
        else:
            self._under_way_less(submission)
            self._refuse(submission, Refusal.ID_REUSED)

    async def _answer_greeted(self, plain: list[tuple[Submission, Any]]) -> None:
        if plain:
            names = await self._services.greetings.names([s.account for s, _ in plain])
            for submission, result in plain:
                self._answer(
                    submission, self._render(submission, result, names.get(submission.account)), replayed=False
                )

    def _forget(self, groups: list[_Group]) -> None:
        """Drop the books on what is committed, and wake whoever waited for that."""
        for group in groups:
            for change in group.decided.changes:
                self._uncommitted[change[0]] -= 1
                if not self._uncommitted[change[0]]:
                    del self._uncommitted[change[0]]
                    if change[0] in self._waiting:
                        self._truth_wanted.set()
            self._uncommitted_entries -= sum(len(r[6]) for r in group.decided.results if r[0] == _DECIDED)
        self._room.set()
        self._idle.set()

    # ---- the truth

    async def _read_truth_forever(self) -> None:
        while True:
            await self._truth_wanted.wait()
            self._truth_wanted.clear()
            reading = {t.account for t in self._truths}
            free = [
                a for a in self._waiting if a not in self._under_way and a not in self._uncommitted and a not in reading
            ]
            for start in range(0, len(free), self._limits.loads_max):
                await self._read_truth(free[start : start + self._limits.loads_max])

    async def _read_truth(self, accounts: list[int]) -> None:
        asked = {account: list(self._waiting[account]) for account in accounts}
        truths = await self._services.truth.read(asked)
        for truth in truths:
            # STATUS was answered while the truth was read; what came in meanwhile stays behind, to be queued again.
            arrived = self._waiting[truth.account][len(asked[truth.account]) :]
            self._held_back -= len(asked[truth.account]) - len(truth.submissions)
            self._waiting[truth.account] = [*truth.submissions, *arrived]
            self._truths.append(truth)
        for account in asked.keys() - {truth.account for truth in truths}:
            for submission in self._waiting.pop(account):
                self._held_back -= 1
                log.error("account without a row", account=account, request_id=submission.request_id.hex())
                self._refuse(submission, Refusal.UNAVAILABLE)
        self._services.statistics.loaded(len(truths))
        self._work.set()

    async def _settle_forever(self) -> None:
        """Let expired holds and lots become entries even if nobody asks for the account."""
        while True:
            await asyncio.sleep(self._limits.settle_interval_s)
            due = await self._services.reader.due_accounts(
                self._services.now_ms(), self._limits.partitions, self._partition, self._limits.settle_accounts_max
            )
            for account in due:
                self.submit(_settling(account, self._limits.settle_interval_s))

    # ---- answers

    def _render(self, submission: Submission, result: Any, greeting: str | None) -> bytes:
        return self._services.renderer.decided(
            submission.op, submission.network_id, result[1], result[2], result[3], result[4], result[5], greeting
        )

    def _answer(self, submission: Submission, body: bytes, *, replayed: bool) -> None:
        self._under_way_less(submission)
        submission.reply_to.answer(submission.request_id, body, replayed=replayed)

    def _refuse(self, submission: Submission, refusal: Refusal) -> None:
        submission.reply_to.refuse(submission.request_id, refusal, self._limits.busy_retry_after_ms)
        self._idle.set()

    def _under_way_less(self, submission: Submission) -> None:
        self._under_way[submission.account] -= 1
        if not self._under_way[submission.account]:
            del self._under_way[submission.account]
            if submission.account in self._waiting:
                self._truth_wanted.set()
            self._idle.set()


def _request(submission: Submission, now_ms: int, today: int, context: Any, new_card_state: int) -> Any:
    """Return the positional request of ledger/lua/request.lua."""
    s = submission
    memo = Memo(s.fingerprint, s.network_id, s.currency, s.reference, s.limited_day, s.new_token_kind, s.new_token_masked)
    return (
        s.op, s.request_id or False, s.token or False, s.terminal_id, s.partner_id, now_ms, today, s.permitted, s.currency_ok,
        s.time_ok, s.points, s.amount, s.eligible, s.partial, s.target or False, s.hold_ms, s.terminal_room, s.active_day,
        s.expiry_day, s.new_token or False, new_card_state, context, memo.packed(), s.sale_ms or now_ms,
    )  # fmt: skip


class _Nobody:
    """Takes the answers that nobody waits for."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Do nothing."""

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Do nothing: the account stays due and is found again."""


def _settling(account: int, patience_s: float) -> Submission:
    return Submission(
        op=Operation.SETTLE,
        request_id=b"",
        token=b"",
        terminal_id=0,
        partner_id=0,
        network_id=0,
        fingerprint=b"",
        terms=(0,) * 9,
        deadline=time.monotonic() + patience_s,
        reply_to=_Nobody(),
        account=account,
    )
