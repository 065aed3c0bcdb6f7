"""From an item of a relay to the dispatcher: whose request it is, what the relay vouches for, and whether it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ledger.card_tokens import token_hash
from ledger.clock import Clock
from ledger.programme import Terminal
from ledger.relays import RelayConflict
from ledger.rendering import Renderer
from ledger.submission import Refusal
from protocol.codes import ErrorCode, Message, Outcome
from protocol.messages import DecodeError, Malformed, decode
from protocol.relay_messages import RequestItem
from protocol.requests import (
    CaptureRequest,
    EarnRequest,
    HoldRequest,
    RedeemRequest,
    ReleaseRequest,
    Request,
    ReverseRequest,
    SaleRequest,
    fingerprint,
)
from server.bridge.asked import Advice, Asked, conflict_of
from server.bridge.conflicts import Conflicts
from server.bridge.limits import ALLOWANCE_GRACE_MS, BridgeLimits
from server.bridge.tally import Tally
from server.observation.metrics import Metrics
from server.registers.dispatch import Dispatcher, Moment, Relayed
from server.registers.pending import Pending, Sender
from server.registers.terminal_room import TerminalRoom

_CAPTURE: Final = int(Message.CAPTURE)
_REDEEM: Final = int(Message.REDEEM)


class Desk:
    """Takes one request at a time. Never blocks, never raises for bad input."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        renderer: Renderer,
        room: TerminalRoom,
        metrics: Metrics,
        token_key: bytes,
        clock: Clock,
        limits: BridgeLimits,
        conflicts: Conflicts,
        tally: Tally,
    ) -> None:
        self._dispatcher = dispatcher
        self._renderer = renderer
        self._room = room
        self._metrics = metrics
        self._token_key = token_key
        self._clock = clock
        self._limits = limits
        self._conflicts = conflicts
        self._tally = tally

    def take(self, asked: Asked, item: RequestItem, at: Moment, arrived_s: float) -> None:
        """Dispatch a request of a relay, or answer it here.

        Its time to live counts from `at` on, its latency from `arrived_s` (monotonic clock).
        """
        try:
            request = decode(item.message)
        except DecodeError as error:
            self._refuse_unread(asked, error)
            return
        if not isinstance(request, Request):
            self._refuse_unread(asked, Malformed("message", "must be a request", None))
        elif item.terminal == asked.session.relay.terminal.code:
            self._take_own(asked, request, at, arrived_s)
        else:
            terminal = asked.session.terminals.get(item.terminal)
            if terminal is None:
                self._metrics.refused(int(request.op), ErrorCode.MALFORMED)
                text = "terminal: must be one of the relay's own store"
                asked.send_error(request.request_id, int(ErrorCode.MALFORMED), text, 0)
            elif asked.backlog:
                self._look_up(asked, request, item, terminal, at, arrived_s)
            else:
                pending = self._pending(asked, terminal, request, arrived_s)
                self._submit(request, terminal, pending, at)

    def _refuse_unread(self, asked: Asked, error: DecodeError) -> None:
        code = ErrorCode.MALFORMED if isinstance(error, Malformed) else ErrorCode.UNSUPPORTED
        self._metrics.refused(0, code)
        request_id: bytes | None = getattr(error, "request_id", None)
        if request_id is None:
            # There is nothing under which it could be answered; no relay of ours sends such.
            asked.drop()
        else:
            asked.send_error(request_id, int(code), str(error), 0)

    def _take_own(self, asked: Asked, request: Request, at: Moment, arrived_s: float) -> None:
        """Take what the relay asks for itself: to reserve an allowance, and to give it back."""
        relay = asked.session.relay
        pending = self._pending(asked, relay.terminal, request, arrived_s)
        if isinstance(request, HoldRequest):
            if request.points > relay.allowance_points:
                pending.malformed(request.request_id, f"points: must not exceed {relay.allowance_points}")
            else:
                hold_ms = relay.allowance_ms + ALLOWANCE_GRACE_MS
                self._submit(request, relay.terminal, pending, at, Relayed(hold_ms=hold_ms))
        elif isinstance(request, ReleaseRequest):
            self._submit(request, relay.terminal, pending, at)
        else:
            pending.malformed(request.request_id, "type: a relay holds and releases, and asks nothing else for itself")

    def _look_up(
        self, asked: Asked, request: Request, item: RequestItem, terminal: Terminal, at: Moment, arrived_s: float
    ) -> None:
        """Take an advice, unless it stands on the operators' list: then it was declined, and stays so."""

        def found(outcome: int | None) -> None:
            pending = self._pending(asked, terminal, request, arrived_s)
            if outcome is None:
                self._take_advice(asked, request, item, terminal, at, arrived_s)
            elif outcome < Outcome.REVERSED:
                asked.send_error(request.request_id, outcome, "it stands on the operators' list", 0)
            else:
                self._decline(request, terminal, outcome, pending)

        def unknown() -> None:
            self._pending(asked, terminal, request, arrived_s).refuse(request.request_id, Refusal.UNAVAILABLE, 0)

        self._conflicts.look_up(request.request_id, terminal.terminal_id, found, unknown)

    def _decline(self, request: Request, terminal: Terminal, outcome: int, pending: Pending) -> None:
        body = self._renderer.decided(int(request.op), terminal.network_id, outcome, 0, 0, None, 0, None)
        pending.answer(request.request_id, body, replayed=False)

    def _take_advice(
        self, asked: Asked, request: Request, item: RequestItem, terminal: Terminal, at: Moment, arrived_s: float
    ) -> None:
        """Take what the relay has approved already."""
        self._tally.advices += 1
        sale_ms = at.now_ms if item.sale_ms is None else item.sale_ms
        if isinstance(request, EarnRequest) and request.offline:
            # The register was alone itself, before it could tell the relay.
            sale_ms = request.sale_time_ms
        of = self._conflict(request, asked, terminal, sale_ms)
        pending = self._pending(Advice(asked, self._conflicts, of), terminal, request, arrived_s)
        match request:
            case RedeemRequest() if item.hold_id is not None:
                self._capture(request, item.hold_id, terminal, pending, at)
            case EarnRequest() | SaleRequest(points=0) if item.hold_id is None:
                self._submit(request, terminal, pending, at, Relayed(sale_ms=sale_ms))
            case ReverseRequest() | ReleaseRequest() if item.hold_id is None:
                self._submit(request, terminal, pending, at)
            case _:
                pending.malformed(request.request_id, "type: a relay may not have approved this by itself")

    def _capture(
        self, request: RedeemRequest, hold_id: bytes, terminal: Terminal, pending: Pending, at: Moment
    ) -> None:
        """Book a redemption out of a reserved allowance as what it is: the capture of that hold.

        It keeps the id and the fingerprint of the REDEEM, so that a retry of that is a replay of this.
        """
        permitted = terminal.permitted - {_CAPTURE}
        if _REDEEM in terminal.permitted:
            permitted |= {_CAPTURE}
        capture = CaptureRequest(
            request.request_id, request.ttl_ms, request.card, hold_id, request.points, request.receipt
        )
        self._submit(capture, replace(terminal, permitted=permitted), pending, at, named_by=request)

    def _submit(
        self,
        request: Request,
        terminal: Terminal,
        pending: Pending,
        at: Moment,
        relayed: Relayed | None = None,
        *,
        named_by: Request | None = None,
    ) -> None:
        line = self._limits.line
        ttl_ms = min(request.ttl_ms or line.ttl_default_ms, line.ttl_max_ms)
        if not terminal.active:
            # Over TCP it could not even sign on.
            self._decline(request, terminal, int(Outcome.NOT_PERMITTED), pending)
        elif self._clock.monotonic_s() >= at.monotonic + ttl_ms / 1000:
            pending.refuse(request.request_id, Refusal.EXPIRED, 0)
        else:
            identity = fingerprint(named_by or request, terminal.code)
            self._dispatcher.dispatch(request, identity, terminal, pending, at, relayed)

    def _pending(self, asked: Sender, terminal: Terminal, request: Request, arrived_s: float) -> Pending:
        op = int(request.op)
        return Pending(asked, terminal.store_id, op, arrived_s, self._metrics, self._room, self._clock)

    def _conflict(
        self, request: Request, asked: Asked, terminal: Terminal, sale_ms: int
    ) -> Callable[[int], RelayConflict]:
        def of(outcome: int) -> RelayConflict:
            self._tally.conflicts += 1
            token = None if request.card.token is None else token_hash(request.card.token, self._token_key)
            return conflict_of(request, asked.session, terminal.terminal_id, token, sale_ms, outcome)

        return of
