"""The life of one partition in one worker: become its owner, catch up, serve, lose it or hand it over.

Whatever goes wrong, the way back is the same: take the lock, begin a new epoch in PostgreSQL, fence Redis, journal what
the outbox holds behind the committed mark, or void what Redis remembers, and serve again.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from ledger.hot_store import Decided, HeadMismatch, HotStoreDown, PartitionHead, ScriptFailed
from ledger.journal.postgres import Postgres
from ledger.journal.writer import Fenced, JournalDown, Writer
from ledger.limits import Limits
from ledger.pipeline import Pipeline
from ledger.services import Services
from ledger.submission import Refusal, Submission

log = structlog.get_logger(__name__)

_RETRY_S = 0.02
_IDLE_POLL_S = 0.01
_TROUBLE = (HotStoreDown, HeadMismatch, ScriptFailed, JournalDown, Fenced)


class Partition:
    """One partition as this worker sees it."""

    def __init__(
        self, number: int, owner: str, postgres: Postgres, services: Services, limits: Limits, *, by_plan: bool
    ) -> None:
        self.number = number
        self.by_plan = by_plan
        self.trouble = "starting"
        self._owner = owner
        self._postgres = postgres
        self._services = services
        self._limits = limits
        self._pipeline: Pipeline | None = None
        self._handing_over = False
        self._in_doubt: list[Submission] = []
        self._patience: asyncio.TimerHandle | None = None

    @property
    def serving(self) -> bool:
        """Return whether this worker decides the partition right now."""
        return self._pipeline is not None and not self._handing_over

    @property
    def idle(self) -> bool:
        """Return whether everything submitted so far is answered."""
        return not self._in_doubt and (self._pipeline is None or self._pipeline.idle)

    @property
    def backlog(self) -> int:
        """Return how many submissions wait to be decided."""
        return self._pipeline.backlog if self._pipeline else len(self._in_doubt)

    def submit(self, submission: Submission) -> None:
        """Take a submission or refuse it at once."""
        if self._pipeline is not None and not self._handing_over:
            self._pipeline.submit(submission)
        elif self._patience is not None and len(self._in_doubt) < self._limits.queue_requests_max:
            self._in_doubt.append(submission)
        else:
            self._refuse(submission)

    async def run(self) -> None:
        """Own and serve the partition whenever possible, until cancelled."""
        try:
            while True:
                await self._one_epoch()
                await asyncio.sleep(self._pause_s() if self._patience is None else _RETRY_S)
        finally:
            self._give_up()

    def _pause_s(self) -> float:
        return self._limits.acquire_interval_s if self.by_plan else self._limits.takeover_interval_s

    async def _one_epoch(self) -> None:
        """Serve from taking the lock to losing it or handing it over."""
        writer: Writer | None = None
        pipeline: Pipeline | None = None
        try:
            writer = await Writer.try_open(
                self._postgres,
                self.number,
                timeout_s=self._limits.postgres_timeout_s,
                idle_timeout_s=self._limits.owner_silence_s,
            )
            if writer is None:
                self.trouble = "owned by another worker"
                return
            head = await self._catch_up(writer)
            pipeline = self._serve_with(Pipeline(self.number, head, writer, self._services, self._limits))
            await self._until_handed_over(pipeline)
            await writer.close()
        except BaseExceptionGroup as group:
            if group.split(_TROUBLE)[1] is not None:
                raise
            self._note(group)
        except _TROUBLE as trouble:
            self._note(trouble)
        finally:
            self._pipeline = None
            if pipeline is not None:
                self._keep_for_a_moment(pipeline.leftovers())
            if self._handing_over:
                # The other worker shall have it, so nothing waits here for a second try.
                self._handing_over = False
                self._give_up()
            if writer is not None:
                writer.terminate()

    def _serve_with(self, pipeline: Pipeline) -> Pipeline:
        in_doubt, self._in_doubt = self._in_doubt, []
        self._pipeline, self.trouble = pipeline, ""
        self._lose_patience()
        for submission in in_doubt:
            pipeline.enqueue(submission)
        return pipeline

    async def _until_handed_over(self, pipeline: Pipeline) -> None:
        running = asyncio.ensure_future(pipeline.run())
        try:
            while self.by_plan or not pipeline.wanted_elsewhere:
                await asyncio.wait([running], timeout=self._limits.owner_check_s)
                if running.done():
                    running.result()
            # From here on new submissions are refused; what is under way is finished before the lock goes.
            self._handing_over = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.postgres_timeout_s):
                    # Idleness has many sources and matters to a drain only, so it is polled.
                    while not pipeline.idle and not running.done():  # noqa: ASYNC110
                        await asyncio.sleep(_IDLE_POLL_S)
            if running.done():
                running.result()
        finally:
            running.cancel()
            await asyncio.wait([running])

    def _keep_for_a_moment(self, leftovers: list[Submission]) -> None:
        """Keep what has no answer for a quick second try; when that takes too long, everybody is told."""
        self._in_doubt = leftovers
        self._lose_patience()
        self._patience = asyncio.get_running_loop().call_later(self._limits.recovery_patience_s, self._give_up)

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def _catch_up(self, writer: Writer) -> PartitionHead:
        """Begin an epoch: journal what was decided before it, or start with an empty hot store."""
        hot_store, statistics = self._services.hot_store, self._services.statistics
        claim = await writer.claim(self._owner)
        statistics.epochs += 1
        decided = await hot_store.claim(self.number, claim.epoch, claim.generation, claim.mark)
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
        first = trouble
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        self.trouble = f"{_PLAIN_WORDS[type(first)]}: {first}" if str(first) else _PLAIN_WORDS[type(first)]
        log.warning("partition lost", partition=self.number, trouble=self.trouble)

    def _give_up(self) -> None:
        """Tell everybody who waits for the recovery; does nothing when it has succeeded."""
        self._lose_patience()
        in_doubt, self._in_doubt = self._in_doubt, []
        for submission in in_doubt:
            self._refuse(submission)

    def _refuse(self, submission: Submission) -> None:
        submission.reply_to.refuse(submission.request_id, Refusal.UNAVAILABLE, self._limits.busy_retry_after_ms)


_PLAIN_WORDS: dict[type[BaseException], str] = {
    HotStoreDown: "Redis does not answer",
    HeadMismatch: "Redis is not where it was left",
    ScriptFailed: "Redis cannot run the scripts that take a partition over; it may be full",
    JournalDown: "PostgreSQL does not answer",
    Fenced: "another worker has taken over",
}
