"""What every partition of a process works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledger.business_day import BusinessDay
from ledger.clock import Clock
from ledger.entries import EntryWriter
from ledger.greetings import Greetings
from ledger.hot_store import HotStore
from ledger.journal.pulse import Pulse
from ledger.journal.reader import Reader
from ledger.rendering import Renderer
from ledger.standby import StandbyStores
from ledger.statistics import Statistics
from ledger.submission import Submission
from ledger.truth import TruthReader


@dataclass(frozen=True, slots=True)
class Services:
    """Engines, rendering, clock and days; `resolve_afresh` sends a submission its whole way again, card first.

    `hot_store` is Redis; an epoch may have another one, of `standby_stores`.
    """

    hot_store: HotStore
    standby_stores: StandbyStores
    pulse: Pulse
    reader: Reader
    truth_reader: TruthReader
    renderer: Renderer
    entry_writer: EntryWriter
    greetings: Greetings
    statistics: Statistics
    clock: Clock
    days: Callable[[], BusinessDay]
    resolve_afresh: Callable[[Submission], None]
