"""The ledger as the process sees it: submit a request, get its durable answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ledger.card_index import CardIndex
from ledger.clock import Clock
from ledger.entries import EntryWriter
from ledger.greetings import Greetings
from ledger.hot_store import HotStore, RedisClient
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.journal.pulse import Pulse
from ledger.journal.reader import Reader, Stored
from ledger.journal.writer import JournalDown
from ledger.limits import Limits
from ledger.operations import Operation, Outcome
from ledger.partition import Partition
from ledger.programme import Programme, Terminal
from ledger.provisional import ProvisionalBalances
from ledger.relays import Relay, RelayConflict, RelayReport
from ledger.rendering import Renderer
from ledger.services import Services
from ledger.standby import StandbyStores
from ledger.statistics import Statistics
from ledger.submission import Refusal, Submission
from ledger.terminals import Terminals
from ledger.truth import TruthReader

#: Hands a submission to the worker at an address; False when there is no way to it.
Forward = Callable[[str, Submission], bool]
_DRAIN_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """Where this worker stands: its address for the others, its number, and how many workers there are.

    Without workers it is an observer: nobody sends it anything, it owns no partition, and it forwards what it takes.
    """

    address: str
    index: int = 0
    workers: int = 1

    @property
    def owned(self) -> bool:
        """Whether partitions may be owned here."""
        return self.workers > 0


OBSERVER = Place("", workers=0)


@dataclass(frozen=True, slots=True)
class Engines:
    """What the ledger is built on: the engines, and the keys for sealing entries and for personal data."""

    postgres: Postgres
    redis: RedisClient
    seal_key: bytes = field(repr=False)
    personal_key: bytes = field(repr=False)


class Ledger:
    """All accounts, seen from one worker process."""

    def __init__(
        self,
        engines: Engines,
        place: Place,
        limits: Limits,
        renderer: Renderer,
        forward: Forward,
        clock: Clock,
    ) -> None:
        self.statistics = Statistics()
        self.programme: Programme = Programme.empty()
        self._postgres = engines.postgres
        self._place = place
        self._owned = place.owned
        self._limits = limits
        self._renderer = renderer
        self._forward = forward
        self._clock = clock
        self._owners: dict[int, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._hot_store = HotStore(engines.redis, timeout_s=limits.redis_timeout_s)
        self._pulse = Pulse(clock, silence_s=limits.journal_silence_s)
        self._reader = Reader(
            engines.postgres,
            self._pulse,
            connections_max=limits.postgres_readers_max,
            timeout_s=limits.postgres_timeout_s,
        )
        self._terminals = Terminals(
            self._reader, self._pulse, lambda: self.programme.version, entries_max=limits.terminals_max
        )
        self._card_index = CardIndex(
            self._reader,
            self._pulse,
            self._resolved,
            self._replay,
            self._refuse_unavailable,
            entries_max=limits.card_index_entries_max,
            waiting_max=limits.queue_requests_max,
        )
        services = Services(
            hot_store=self._hot_store,
            standby_stores=StandbyStores(accounts_max=limits.standby_accounts_max),
            pulse=self._pulse,
            reader=self._reader,
            truth_reader=TruthReader(
                self._reader, renderer, self._partner_of, clock, lambda: self.programme.days, self._resolve_afresh
            ),
            renderer=renderer,
            entry_writer=EntryWriter(renderer, engines.seal_key),
            greetings=Greetings(
                self._reader,
                engines.personal_key,
                clock,
                names_max=limits.greetings_max,
                age_s=limits.greeting_age_s,
            ),
            statistics=self.statistics,
            clock=clock,
            days=lambda: self.programme.days,
            resolve_afresh=self._resolve_afresh,
        )
        self._provisional = ProvisionalBalances(services, limits)
        self._partitions = [
            Partition(
                number,
                place.address,
                engines.postgres,
                services,
                self._provisional,
                limits,
                by_plan=number % place.workers == place.index,
            )
            for number in range(limits.partitions if place.owned else 0)
        ]

    async def start(self) -> None:
        """Load the programme and begin to own partitions.

        Raises JournalDown, and WorkersRunning when other workers still run with another number of partitions.
        """
        if self._place.owned:
            await ensure_partitions(self._postgres, self._limits.partitions, timeout_s=self._limits.postgres_timeout_s)
        _, self._owners = await self._reader.partition_owners()
        await self._load_programme()
        works = [self._card_index.run, self._provisional.run, self._refresh_forever, *(p.run for p in self._partitions)]
        self._tasks = [asyncio.create_task(work(), name=work.__qualname__) for work in works]

    async def stop(self, drain_timeout_s: float) -> None:
        """Answer what is under way, then let go of partitions and engines; may be called twice."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout_s):
                # A submission goes back and forth between the card index and partitions, so all must rest at once.
                while not self._idle:  # noqa: ASYNC110
                    await asyncio.sleep(_DRAIN_POLL_S)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._reader.close()
        await self._hot_store.close()

    @property
    def _idle(self) -> bool:
        return self._card_index.idle and self._provisional.idle and all(p.idle for p in self._partitions)

    async def failed(self) -> None:
        """Wait until a task of the ledger ends by a bug and raise what ended it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    # ---- submissions

    def submit(self, submission: Submission) -> None:
        """Take a request; its answer goes to `submission.reply_to`, possibly before this returns."""
        account = self._card_index.known(submission.token)
        if account is not None:
            submission.account = account
            self._route(submission)
        else:
            self._resolve(submission)

    @property
    def overloaded(self) -> bool:
        """Whether every partition is decided here and would refuse a submission as BUSY."""
        return all(partition.full for partition in self._partitions)

    def submit_local(self, submission: Submission) -> None:
        """Take a request that another worker resolved and sent here because this one owns the account's partition."""
        self._partitions[submission.account % self._limits.partitions].submit(submission)

    def _route(self, submission: Submission) -> None:
        number = submission.account % self._limits.partitions
        owner = self._owners.get(number, "")
        # What is known of the owners is a moment old: it may still name who owned the partition before this worker.
        if self._owned and (self._partitions[number].here or owner in ("", self._place.address)):
            self._partitions[number].submit(submission)
        elif not owner:
            # An observer has nobody to send it to: nothing has happened, so it may be asked again.
            submission.reply_to.refuse(submission.request_id, Refusal.BUSY, self._limits.busy_retry_after_ms)
        elif not self._forward(owner, submission):
            self._refuse_unavailable(submission)

    def _resolve(self, submission: Submission) -> None:
        if not submission.token:
            # An operator names the account itself.
            self._route(submission)
        elif not self._card_index.resolve(submission):
            submission.reply_to.refuse(submission.request_id, Refusal.BUSY, self._limits.busy_retry_after_ms)

    def _resolve_afresh(self, submission: Submission) -> None:
        submission.resolved_afresh = True
        if submission.op == Operation.SETTLE:
            return
        self._card_index.forget(submission.token)
        self._resolve(submission)

    def _resolved(self, submission: Submission, account: int | None) -> None:
        if account is not None:
            submission.account = account
            self._route(submission)
            return
        outcome = Outcome.UNKNOWN_CARD if submission.permitted else Outcome.NOT_PERMITTED
        body = self._renderer.decided(submission.op, submission.network_id, outcome, 0, 0, None, 0, None)
        submission.reply_to.answer(submission.request_id, body, replayed=False)

    def _replay(self, submission: Submission, stored: Stored) -> None:
        """Answer a request that was decided while its card led to another account, as it was then."""
        if stored.fingerprint in (None, submission.fingerprint):
            self.statistics.replayed()
            submission.reply_to.answer(submission.request_id, stored.answer, replayed=True)
        else:
            submission.reply_to.refuse(submission.request_id, Refusal.ID_REUSED, self._limits.busy_retry_after_ms)

    def _refuse_unavailable(self, submission: Submission) -> None:
        submission.reply_to.refuse(submission.request_id, Refusal.UNAVAILABLE, self._limits.busy_retry_after_ms)

    # ---- the programme

    async def terminals(self, codes: Sequence[str]) -> dict[str, Terminal]:
        """Return those terminals that exist, by code, as PostgreSQL has them now, or had them before it went away.

        Raises JournalDown.
        """
        return await self._terminals.named(codes)

    async def relays(self, codes: Sequence[str]) -> dict[str, Relay]:
        """Return those of the codes that are relays, as PostgreSQL has them now. Raises JournalDown."""
        self._expect_journal()
        return await self._reader.relays(codes)

    async def registers(self, stores: Sequence[int]) -> dict[int, list[Terminal]]:
        """Return the terminals of each store, relays left out, as PostgreSQL has them now. Raises JournalDown."""
        self._expect_journal()
        return await self._reader.registers(stores)

    async def report_relays(self, reports: Sequence[RelayReport]) -> None:
        """Note what relays said of themselves, at most one report of each. Raises JournalDown."""
        self._expect_journal()
        if reports:
            await self._reader.report_relays(reports)

    async def add_conflicts(self, conflicts: Sequence[RelayConflict]) -> None:
        """Put on the operators' list what is not there yet; committed when this returns. Raises JournalDown."""
        self._expect_journal()
        if conflicts:
            await self._reader.add_conflicts(conflicts, self._clock.now_ms())

    def _expect_journal(self) -> None:
        if self._pulse.silent:
            raise JournalDown("PostgreSQL does not answer")

    async def terminal_spent_today(self, terminal_id: int) -> int:
        """Return what a limited terminal has spent today, in minor points. Raises JournalDown."""
        self._expect_journal()
        return await self._reader.terminal_spent(terminal_id, self.today())

    def today(self) -> int:
        """Return the business day, in days since 1970 in the programme's time zone."""
        return self.programme.day(self._clock.now_ms())

    def _partner_of(self, network_id: int) -> int:
        network = self.programme.networks.get(network_id)
        return network.partner_id if network else 0

    async def _load_programme(self) -> None:
        self.programme = await self._reader.programme()

    async def _refresh_forever(self) -> None:
        while True:
            with contextlib.suppress(JournalDown):
                version, self._owners = await self._reader.partition_owners()
                if version != self.programme.version:
                    await self._load_programme()
                for partition in self._partitions:
                    if partition.by_plan and not partition.serving:
                        await self._reader.ask_for_partition(partition.number, self._place.address)
            await asyncio.sleep(self._limits.refresh_interval_s)

    # ---- health

    @property
    def journal_away(self) -> bool:
        """Whether PostgreSQL did not answer the last time that it was asked, or nothing was read from it yet."""
        return self._pulse.away or not self.programme.version

    def health(self) -> dict[str, object]:
        """Return what this worker knows of itself: partitions served, what is in trouble, how much waits."""
        partitions = {
            str(p.number): {
                "serving": p.serving,
                "standby": p.standby,
                "owner": self._owners.get(p.number, ""),
                "trouble": p.trouble,
                "backlog": p.backlog,
                "lag_ms": int(p.lag_s * 1000),
            }
            for p in self._partitions
        }
        return {"ready": all(p.serving or not p.by_plan for p in self._partitions), "partitions": partitions}
