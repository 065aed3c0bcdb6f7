"""What the ledger counts; whoever shows metrics reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Running totals since the process began.

    Seconds are sums: of commits, and of the time from the moment a batch was formed until its answers left.
    """

    decided_requests: int = 0
    decided_batches: int = 0
    committed_entries: int = 0
    committed_batches: int = 0
    commit_seconds: float = 0.0
    batch_cycle_seconds: float = 0.0
    replays: int = 0
    vetoes: int = 0
    loads: int = 0
    recovered_batches: int = 0
    epochs: int = 0
    generations_voided: int = 0
    standby_epochs: int = 0
    provisional_balances: int = 0

    def decided(self, requests: int) -> None:
        """Count one batch decided in Redis."""
        self.decided_batches += 1
        self.decided_requests += requests

    def committed(self, entries: int, seconds: float, vetoes: int) -> None:
        """Count one batch journaled in PostgreSQL."""
        self.committed_batches += 1
        self.committed_entries += entries
        self.commit_seconds += seconds
        self.vetoes += vetoes

    def answered(self, seconds: float) -> None:
        """Count one batch whose answers have left, so long after it was formed."""
        self.batch_cycle_seconds += seconds

    def replayed(self) -> None:
        """Count one answer given again."""
        self.replays += 1

    def loaded(self, accounts: int) -> None:
        """Count accounts read from PostgreSQL."""
        self.loads += accounts
