"""What the ledger asks of whoever speaks the wire: the bytes of an answer, made before they are journaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Renderer(Protocol):
    """Makes answer bodies; the ledger stores them with the entry and never looks inside."""

    def decided(
        self,
        op: int,
        network_id: int,
        outcome: int,
        points: int,
        earned: int,
        balance: Sequence[int] | None,
        detail: int,
        greeting: str | None,
    ) -> bytes:
        """Return the body of a decision.

        `balance` is available, held, pending, owed, expiring (minor points) and the day since 1970 on which those
        expire (0 = none), or None where no account is known. `detail` is the end of a hold in milliseconds since
        1970 (HOLD), else 0. `greeting` is given for BALANCE alone, because it is personal and must not be stored.
        """

    def provisional(self, outcome: int, balance: Sequence[int]) -> bytes:
        """Return the body of a BALANCE that was decided without the journal, so that it says of itself."""

    def status(self, state: int, original_body: bytes | None) -> bytes:
        """Return the body that tells what became of a request; `original_body` is the stored answer."""
