"""The life of one partition in one worker: become its owner, catch up, serve, lose it or hand it over.

Whatever goes wrong, the way back is the same: take the lock, begin a new epoch in PostgreSQL, fence Redis, journal what
the outbox holds behind the committed mark, or void what Redis remembers, and serve again. While Redis is away an epoch
has its hot store in this worker's memory, and ends when Redis is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum

import structlog

from ledger.hot_store import Decided, HeadMismatch, HotStore, HotStoreDown, PartitionHead, ScriptFailed
from ledger.journal.postgres import Postgres
from ledger.journal.writer import Claim, Fenced, JournalDown, Writer
from ledger.limits import Limits
from ledger.pipeline import Pipeline
from ledger.provisional import LastServed, ProvisionalBalances
from ledger.redis_watch import RedisWatch
from ledger.services import Services
from ledger.submission import Refusal, Submission

log = structlog.get_logger(__name__)

_RETRY_S = 0.02
_IDLE_POLL_S = 0.01
_TROUBLE = (HotStoreDown, HeadMismatch, ScriptFailed, JournalDown, Fenced)


class _Keeping(Enum):
    """What happens to submissions that come when nothing decides them."""

    NOTHING = "refused"
    FOR_A_MOMENT = "kept until recovery_patience_s is over"
    UNTIL_NEXT_EPOCH = "kept, since this worker is about to go on with another hot store"


class Partition:
    """One partition as this worker sees it."""

    def __init__(
        self,
        number: int,
        owner: str,
        postgres: Postgres,
        services: Services,
        provisional: ProvisionalBalances,
        limits: Limits,
        *,
        by_plan: bool,
    ) -> None:
        self.number = number
        self.by_plan = by_plan
        self.trouble = "starting"
        self._owner = owner
        self._postgres = postgres
        self._services = services
        self._provisional = provisional
        self._limits = limits
        self._redis = RedisWatch(lambda: services.hot_store.probe(number), services.clock, limits)
        self._pipeline: Pipeline | None = None
        self._handing_over = False
        self._keeping = _Keeping.NOTHING
        self._kept: list[Submission] = []
        self._patience: asyncio.TimerHandle | None = None
        self._last_served: LastServed | None = None
        self._without_journal = False

    @property
    def serving(self) -> bool:
        """Return whether this worker decides the partition right now, or is about to go on in another hot store."""
        going_on = self._pipeline is not None or self._keeping is _Keeping.UNTIL_NEXT_EPOCH
        return going_on and not self._handing_over

    @property
    def here(self) -> bool:
        """Return whether submissions should come to this worker: it serves, or tries to go on serving."""
        return (self._pipeline is not None or self._keeping is not _Keeping.NOTHING) and not self._handing_over

    @property
    def standby(self) -> bool:
        """Return whether this worker decides the partition in its own memory."""
        return self._pipeline is not None and self._pipeline.hot_store is not self._services.hot_store

    @property
    def idle(self) -> bool:
        """Return whether everything submitted so far is answered."""
        return not self._kept and (self._pipeline is None or self._pipeline.idle)

    @property
    def backlog(self) -> int:
        """Return how many submissions wait to be decided."""
        return len(self._kept) + (self._pipeline.backlog if self._pipeline else 0)

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest batch that is decided here and not committed, in seconds."""
        return self._pipeline.lag_s if self._pipeline else 0.0

    @property
    def full(self) -> bool:
        """Return whether this worker decides it and has too much to do."""
        return self._pipeline is not None and self._pipeline.full

    def submit(self, submission: Submission) -> None:
        """Take a submission or refuse it at once."""
        if self._services.pulse.silent:
            self._refuse(submission)
        elif self._keeping is _Keeping.NOTHING:
            if self._pipeline is None or self._handing_over:
                self._refuse(submission)
            else:
                self._pipeline.submit(submission)
        elif len(self._kept) < self._limits.queue_requests_max:
            self._kept.append(submission)
        else:
            submission.reply_to.refuse(submission.request_id, Refusal.BUSY, self._limits.busy_retry_after_ms)

    async def run(self) -> None:
        """Own and serve the partition whenever possible, until cancelled."""
        try:
            while True:
                await self._own_it()
                await asyncio.sleep(self._pause_s() if self._keeping is _Keeping.NOTHING else _RETRY_S)
        finally:
            self._give_up()

    def _pause_s(self) -> float:
        return self._limits.acquire_interval_s if self.by_plan else self._limits.takeover_interval_s

    async def _own_it(self) -> None:
        """Serve from taking the lock to losing it or handing it over."""
        writer: Writer | None = None
        try:
            writer = await self._open()
            if writer is None:
                return
            while not self._handing_over:
                await self._one_epoch(writer)
            await writer.close()
        except BaseExceptionGroup as group:
            if group.split(_TROUBLE)[1] is not None:
                raise
            self._note(group)
        except _TROUBLE as trouble:
            self._note(trouble)
        finally:
            if self._handing_over:
                # The other worker shall have it, so nothing waits here for a second try.
                self._handing_over = False
                self._give_up()
            if writer is not None:
                writer.terminate()

    async def _open(self) -> Writer | None:
        try:
            with self._services.pulse.call():
                writer = await Writer.try_open(
                    self._postgres,
                    self.number,
                    timeout_s=self._limits.postgres_timeout_s,
                    idle_timeout_s=self._limits.owner_silence_s,
                )
        except JournalDown:
            # It is not only this connection that was lost: nobody shall wait for PostgreSQL.
            self._give_up()
            raise
        if writer is None:
            self.trouble = "owned by another worker"
            self._last_served, self._without_journal = None, False
        return writer

    async def _one_epoch(self, writer: Writer) -> None:
        """Serve with one hot store, until the partition is handed over or Redis is back."""
        try:
            hot_store, head = await self._catch_up(writer)
            pipeline = Pipeline(self.number, head, writer, hot_store, self._services, self._limits)
            # Redis is claimed by now, so whatever is older there will not be believed by anybody who comes later.
            await pipeline.begin()
        except BaseException:
            if self._keeping is _Keeping.UNTIL_NEXT_EPOCH:
                self._keep_for_a_moment()
            raise
        self._serve_with(pipeline)
        try:
            await self._until_it_ends(pipeline)
        except BaseException:
            self._keep_for_a_moment()
            raise
        finally:
            self._pipeline = None
            self._kept[:0] = pipeline.leftovers()
            self._last_served = LastServed(self.number, hot_store, pipeline.head)

    def _serve_with(self, pipeline: Pipeline) -> None:
        kept, self._kept = self._kept, []
        self._stop_keeping()
        self._pipeline, self._without_journal = pipeline, False
        if not self.standby:
            self.trouble = ""
        for submission in kept:
            pipeline.enqueue(submission)

    async def _until_it_ends(self, pipeline: Pipeline) -> None:
        running = asyncio.ensure_future(pipeline.run())
        back = asyncio.ensure_future(self._redis.until_back()) if self.standby else None
        watched = {running} if back is None else {running, back}
        try:
            while self.by_plan or not pipeline.wanted_elsewhere:
                await asyncio.wait(watched, timeout=self._limits.owner_check_s, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
                if back is not None and back.done():
                    back.result()
                    # New submissions are kept from here on, and what is not decided yet goes with them.
                    self._keeping = _Keeping.UNTIL_NEXT_EPOCH
                    pipeline.stop_deciding()
                    await self._until(running, lambda: pipeline.at_rest)
                    return
            # From here on new submissions are refused; what is under way is finished before the lock goes.
            self._handing_over = True
            await self._until(running, lambda: pipeline.idle)
        finally:
            for task in watched:
                task.cancel()
            # What one of them failed by at this last moment is no news: the epoch ends in any case.
            await asyncio.gather(*watched, return_exceptions=True)

    async def _until(self, running: asyncio.Future[None], reached: Callable[[], bool]) -> None:
        """Wait, within `postgres_timeout_s`, for a pipeline to come to a state."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.postgres_timeout_s):
                # These states have many sources and matter at an epoch's end only, so they are polled.
                while not reached() and not running.done():  # noqa: ASYNC110
                    await asyncio.sleep(_IDLE_POLL_S)
        if running.done():
            running.result()

    async def _catch_up(self, writer: Writer) -> tuple[HotStore, PartitionHead]:
        """Begin an epoch: journal what was decided before it, or start with an empty hot store."""
        with self._services.pulse.call():
            claim = await writer.claim(self._owner)
        self._services.statistics.epochs += 1
        if self._redis.away:
            return await self._stand_in(writer, claim)
        return self._services.hot_store, await self._take_over(writer, claim)

    async def _outwait(self, claim: Claim) -> None:
        """Wait until the last owner that decided cannot believe any more that it is still the owner."""
        if claim.served_by not in ("", self._owner):
            await asyncio.sleep(self._limits.lease_s)

    async def _take_over(self, writer: Writer, claim: Claim) -> PartitionHead:
        hot_store, statistics = self._services.hot_store, self._services.statistics
        if claim.standby:
            # Redis fences a former owner only if that one asks it.
            await self._outwait(claim)
        decided = await hot_store.claim(self.number, claim.epoch, claim.generation, claim.mark, claim.served)
        if decided is not None and await self._journal_rest(writer, decided):
            log.info("partition taken", partition=self.number, epoch=claim.epoch, caught_up=len(decided))
            return PartitionHead(claim.epoch, claim.generation, claim.mark + len(decided))
        generation = await writer.void_generation()
        head = PartitionHead(claim.epoch, generation, claim.mark + len(decided or ()))
        await hot_store.reset(self.number, head)
        statistics.generations_voided += 1
        say = log.warning if claim.mark else log.info
        say("partition taken without what Redis remembered", partition=self.number, epoch=claim.epoch)
        return head

    async def _stand_in(self, writer: Writer, claim: Claim) -> tuple[HotStore, PartitionHead]:
        """Begin an epoch without Redis. Whatever it remembers when it is back was not told to anybody, and is void."""
        # Redis cannot tell a former owner, who may only be cut off from PostgreSQL, that its time is over.
        await self._outwait(claim)
        head = PartitionHead(claim.epoch, await writer.void_generation(), claim.mark)
        hot_store = self._services.standby_stores.make()
        await hot_store.reset(self.number, head)
        statistics = self._services.statistics
        statistics.generations_voided += 1
        statistics.standby_epochs += 1
        log.warning("partition taken on standby", partition=self.number, epoch=claim.epoch, trouble=self.trouble)
        return hot_store, head

    async def _journal_rest(self, writer: Writer, decided: list[Decided]) -> bool:
        """Journal what a former owner decided; return False when PostgreSQL vetoed some, so that Redis is wrong."""
        vetoed = False
        for part in decided:
            # One at a time, since a vetoed record may break the continuity of those behind it.
            journaling = self._services.entry_writer.journaling([part])
            vetoed |= bool(await writer.commit(journaling.batch, self._forget))
            self._services.statistics.recovered_batches += 1
        return not vetoed

    async def _forget(self, accounts: set[int]) -> None:
        await self._services.hot_store.forget(self.number, accounts)

    def _note(self, trouble: BaseException) -> None:
        """Remember why an epoch ended, and by that how the next one begins."""
        first = trouble
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        trouble_before, words = self.trouble, _PLAIN_WORDS[type(first)]
        self.trouble = f"{words}: {first}" if str(first) else words
        # An engine that stays away is no news each time that it is tried.
        say = log.debug if self.trouble == trouble_before else log.warning
        say("partition lost", partition=self.number, trouble=self.trouble)
        self._without_journal = isinstance(first, JournalDown)
        if isinstance(first, HotStoreDown | ScriptFailed):
            self._redis.lost()
        elif isinstance(first, Fenced):
            self._last_served = None

    # ---- what has no answer

    def _keep_for_a_moment(self) -> None:
        """Keep what has no answer for a quick second try; when that takes too long, everybody is told."""
        self._stop_keeping()
        self._keeping = _Keeping.FOR_A_MOMENT
        self._patience = asyncio.get_running_loop().call_later(self._limits.recovery_patience_s, self._give_up)

    def _stop_keeping(self) -> None:
        self._keeping = _Keeping.NOTHING
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        """Tell everybody who waits for the recovery; does nothing when it has succeeded."""
        self._stop_keeping()
        kept, self._kept = self._kept, []
        for submission in kept:
            self._refuse(submission)

    def _refuse(self, submission: Submission) -> None:
        """Say UNAVAILABLE, unless it is a balance that can be told without PostgreSQL."""
        last = self._last_served
        if self._pipeline is not None:
            last = LastServed(self.number, self._pipeline.hot_store, self._pipeline.head)
        without_journal = self._without_journal or self._services.pulse.away
        if not (without_journal and self._provisional.ask(submission, last)):
            submission.reply_to.refuse(submission.request_id, Refusal.UNAVAILABLE, self._limits.busy_retry_after_ms)


_PLAIN_WORDS: dict[type[BaseException], str] = {
    HotStoreDown: "Redis does not answer",
    HeadMismatch: "Redis is not where it was left",
    ScriptFailed: "Redis cannot run the scripts that take a partition over; it may be full",
    JournalDown: "PostgreSQL does not answer",
    Fenced: "another worker has taken over",
}
