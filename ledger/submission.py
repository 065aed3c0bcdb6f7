"""One request on its way to a decision, and where its answer goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol


class Refusal(IntEnum):
    """Why a request was not decided; the numbers are the wire's ERROR codes (SPEC.md, error codes)."""

    BUSY = 3
    EXPIRED = 4
    ID_REUSED = 5
    UNAVAILABLE = 6


class ReplyTo(Protocol):
    """Whoever waits for the answer: a register's session, or the link to another worker."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Take the answer body, committed and final."""

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Take a refusal: UNAVAILABLE leaves open whether the request had an effect, the others had none."""


@dataclass(slots=True)
class Submission:
    """A request with the facts that its decision needs.

    Points and amounts are minor units. `terms` is positional, see ledger/lua/request.lua. `deadline` is in seconds
    of the monotonic clock: a submission that is not yet decided by then is refused as EXPIRED. `greeting` asks for the
    member's name (BALANCE alone); `limited_day` is the business day when the terminal's spending counts against a daily
    limit, else 0. The last five are the ledger's own; `queued_at` is like `deadline`, and `by_former_card` says that
    the account is that of the earlier request which is named, and that the card led there once.
    """

    op: int
    request_id: bytes
    token: bytes
    terminal_id: int
    partner_id: int
    network_id: int
    fingerprint: bytes
    terms: tuple[int, ...]
    deadline: float
    reply_to: ReplyTo
    permitted: bool = True
    currency_ok: bool = True
    time_ok: bool = True
    points: int = 0
    amount: int = 0
    eligible: int = -1
    partial: bool = False
    target: bytes | None = None
    hold_ms: int = 0
    terminal_room: int = -1
    active_day: int = 0
    expiry_day: int = 0
    new_token: bytes | None = None
    new_token_masked: str = ""
    new_token_kind: int = 0
    sale_ms: int = 0
    currency: str = ""
    reference: str = ""
    greeting: bool = False
    limited_day: int = 0
    account: int = field(default=0, compare=False)
    queued_at: float = field(default=0.0, compare=False)
    attempts: int = field(default=0, compare=False)
    resolved_afresh: bool = field(default=False, compare=False)
    by_former_card: bool = field(default=False, compare=False)
