"""From a register's request to the ledger's submission: the facts that a decision needs, looked up in one place."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from ledger.card_tokens import TOKEN_BYTES
from ledger.programme import Network, Programme, Rules, Terminal
from ledger.rendering import Renderer
from ledger.submission import Refusal, Submission
from protocol import tokens
from protocol.codes import CardKind, Message, Outcome
from protocol.requests import Receipt, Request
from server.registers.operations import PLAN_OF
from server.registers.pending import Pending
from server.registers.terminal_room import TerminalRoom

# SPEC.md, no answer: every doubt has a way out, so these two need no permission. Whose request the original was is
# checked by the decision.
ALWAYS_PERMITTED = frozenset({int(Message.REVERSE), int(Message.STATUS)})
_BALANCE = int(Message.BALANCE)
_EARN = int(Message.EARN)
_REPLACE = int(Message.REPLACE)
ALL_BP = 10_000
"""All of a receipt, in basis points."""
_MINUTE_MS = 60_000
_ROOM_UNKNOWN_RETRY_MS = 100
# A token's kind is how it is written; a track is only another way to read a PAN.
_TOKEN_KINDS = {int(CardKind.TRACK): int(CardKind.PAN)}


class Decider(Protocol):
    """What dispatch needs of the ledger."""

    @property
    def programme(self) -> Programme:
        """The programme in force."""

    def submit(self, submission: Submission) -> None:
        """Take a submission; answers through its `reply_to`, possibly at once."""


class Moment(NamedTuple):
    """When a batch of requests arrived: milliseconds since 1970 (UTC) and seconds of the monotonic clock."""

    now_ms: int
    monotonic: float


class Relayed(NamedTuple):
    """What is different about a request that a relay vouches for (SPEC.md, MQTT: advices, allowances).

    `sale_ms`: the relay has answered it at that time (ms since 1970 UTC), so that time's terms and days count, and it
    is never too late. `hold_ms`: how long this HOLD shall last, whatever the network's rules say.
    """

    sale_ms: int | None = None
    hold_ms: int | None = None


class DispatchLimits(NamedTuple):
    """The settings of the same names."""

    ttl_default_ms: int
    ttl_max_ms: int
    advice_future_max_ms: int
    amount_max: int
    busy_retry_after_ms: int


class _InForce(NamedTuple):
    """What holds for a network until `until_ms`, worked out once a minute instead of once a request."""

    programme: Programme
    network: Network
    from_ms: int
    until_ms: int
    rules: Rules
    day: int
    terms: tuple[int, ...]
    active_day: int
    expiry_day: int


class Dispatcher:
    """Turns requests into submissions and hands them to the ledger. Never blocks, never raises for bad input."""

    def __init__(
        self, ledger: Decider, renderer: Renderer, room: TerminalRoom, token_key: bytes, limits: DispatchLimits
    ) -> None:
        self._ledger = ledger
        self._renderer = renderer
        self._room = room
        # Copied for each token, so that the key is taken in only once.
        self._keyed = blake2b(digest_size=TOKEN_BYTES, key=token_key)
        self._limits = limits
        self._in_force: dict[int, _InForce] = {}
        self._draining_retry_ms: int | None = None

    @property
    def busy_retry_after_ms(self) -> int:
        """When a register shall come again that was told BUSY."""
        return self._limits.busy_retry_after_ms

    def drain(self, retry_after_ms: int) -> None:
        """Refuse every further request as BUSY: it was not executed, another worker or a restarted one will do it."""
        self._draining_retry_ms = retry_after_ms

    def dispatch(
        self,
        request: Request,
        fingerprint: bytes,
        terminal: Terminal,
        pending: Pending,
        at: Moment,
        relayed: Relayed | None = None,
    ) -> None:
        """Submit a request, or answer it here where the ledger cannot: unreadable card, field beyond a limit."""
        request_id = request.request_id
        if self._draining_retry_ms is not None:
            pending.refuse(request_id, Refusal.BUSY, self._draining_retry_ms)
            return
        plan = PLAN_OF[type(request)]
        op = plan.op
        in_force = self._holds_now(terminal.network_id, at.now_ms)
        if in_force is None:
            pending.refuse(request_id, Refusal.BUSY, self._limits.busy_retry_after_ms)
            return
        permitted = op in terminal.permitted or op in ALWAYS_PERMITTED
        token = request.card.token
        if token is None:
            self._decline(request_id, op, terminal, permitted, pending)
            return
        ttl_ms = min(request.ttl_ms or self._limits.ttl_default_ms, self._limits.ttl_max_ms)
        # By position, in the order of the class: names would double the cost of what is made for every request.
        submission = Submission(
            op,
            request_id,
            self._hash(token),
            terminal.terminal_id,
            in_force.network.partner_id,
            terminal.network_id,
            fingerprint,
            in_force.terms,
            at.monotonic + ttl_ms / 1000,
            pending,
            permitted,
        )
        submission.sale_ms = at.now_ms
        plan.fill(request, submission)
        if plan.receipt and not self._take_receipt(request, submission, in_force, pending):
            return
        if plan.credits:
            self._take_days(request, submission, in_force, at.now_ms)
        elif op == _BALANCE:
            submission.greeting = in_force.rules.greeting
        elif op == _REPLACE and not self._take_new_card(request, submission):
            self._decline(request_id, op, terminal, permitted, pending)
            return
        if relayed is not None:
            _take_word(relayed, submission, in_force, at.now_ms)
        if plan.spends and submission.points and not self._take_room(submission, in_force, pending):
            return
        self._ledger.submit(submission)

    def _hash(self, token: str) -> bytes:
        """Return what ledger.card_tokens.token_hash returns."""
        keyed = self._keyed.copy()
        keyed.update(token.encode())
        return keyed.digest()

    def _holds_now(self, network_id: int, now_ms: int) -> _InForce | None:
        found = self._in_force.get(network_id)
        if found is not None and found.programme is self._ledger.programme and found.from_ms <= now_ms < found.until_ms:
            return found
        return self._look_up(network_id, now_ms)

    def _look_up(self, network_id: int, now_ms: int) -> _InForce | None:
        """Work out what holds for a network now; rules and days change on whole minutes or on the rules' own moment."""
        programme = self._ledger.programme
        network = programme.networks.get(network_id)
        if network is None:
            return None
        rules = network.rules_at(now_ms)
        day = programme.day(now_ms)
        active_day, expiry_day = rules.earning_days(day)
        until_ms = (now_ms // _MINUTE_MS + 1) * _MINUTE_MS
        later = [each.valid_from_ms for each in network.rules if now_ms < each.valid_from_ms < until_ms]
        found = self._in_force[network_id] = _InForce(
            programme=programme,
            network=network,
            from_ms=now_ms,
            until_ms=min([until_ms, *later]),
            rules=rules,
            day=day,
            terms=rules.terms,
            active_day=active_day,
            expiry_day=expiry_day,
        )
        return found

    def _decline(self, request_id: bytes, op: int, terminal: Terminal, permitted: bool, pending: Pending) -> None:
        outcome = Outcome.BAD_CARD if permitted else Outcome.NOT_PERMITTED
        body = self._renderer.decided(op, terminal.network_id, int(outcome), 0, 0, None, 0, None)
        pending.answer(request_id, body, replayed=False)

    def _take_receipt(self, request: Any, submission: Submission, in_force: _InForce, pending: Pending) -> bool:
        receipt: Receipt = request.receipt
        amount_max = self._limits.amount_max
        if receipt.amount > amount_max or submission.points > amount_max or submission.eligible > amount_max:
            field = "receipt.amount" if receipt.amount > amount_max else "points"
            field = field if submission.eligible <= amount_max else "eligible_amount"
            pending.malformed(submission.request_id, f"{field}: must not exceed {amount_max}")
            return False
        submission.amount = receipt.amount
        submission.currency = receipt.currency
        submission.reference = receipt.reference
        submission.currency_ok = receipt.currency == in_force.network.currency
        return True

    def _take_days(self, request: Any, submission: Submission, in_force: _InForce, now_ms: int) -> None:
        submission.active_day = in_force.active_day
        submission.expiry_day = in_force.expiry_day
        if submission.op == _EARN and request.offline:
            self._take_advice(request, submission, in_force, now_ms)

    def _take_advice(self, request: Any, submission: Submission, in_force: _InForce, now_ms: int) -> None:
        """Let an advice count by the time of the sale: rate and days are those of back then (SPEC.md, EARN)."""
        sale_ms: int = request.sale_time_ms
        if sale_ms > now_ms + self._limits.advice_future_max_ms:
            submission.time_ok = False
            return
        _count_by(sale_ms, submission, in_force)

    def _take_new_card(self, request: Any, submission: Submission) -> bool:
        card = request.new_card
        if card.token is None:
            return False
        submission.new_token = self._hash(card.token)
        submission.new_token_masked = tokens.masked(card.token)
        submission.new_token_kind = _TOKEN_KINDS.get(card.kind, card.kind)
        return True

    def _take_room(self, submission: Submission, in_force: _InForce, pending: Pending) -> bool:
        """Reserve daily room of the terminal; while the journal's figure is being read, ask the register to wait."""
        limit = in_force.rules.terminal_day_points_max
        if not limit:
            return True
        terminal_id = submission.terminal_id
        room = self._room.room(terminal_id, in_force.day, limit)
        if room is None:
            pending.refuse(submission.request_id, Refusal.BUSY, _ROOM_UNKNOWN_RETRY_MS)
            return False
        submission.terminal_room = room
        submission.limited_day = in_force.day
        pending.reservation = self._room.reserve(terminal_id, min(room, submission.points))
        return True


def _take_word(relayed: Relayed, submission: Submission, in_force: _InForce, now_ms: int) -> None:
    """Have a relay's word count."""
    if relayed.sale_ms is not None:
        # Its clock may be ahead, but the sale has happened.
        _count_by(min(relayed.sale_ms, now_ms), submission, in_force)
        submission.time_ok = True
    if relayed.hold_ms is not None:
        submission.hold_ms = relayed.hold_ms
        # Nothing is bought yet: what a receipt and a redemption must be like is checked when the points are spent.
        rules = replace(in_force.rules, hold_max_ms=relayed.hold_ms, redeem_min=0, redeem_max=0, share_bp=ALL_BP)
        submission.terms = rules.terms


def _count_by(sale_ms: int, submission: Submission, in_force: _InForce) -> None:
    """Have the terms and days of a moment count."""
    rules = in_force.network.rules_at(sale_ms)
    submission.sale_ms = sale_ms
    submission.terms = rules.terms
    submission.active_day, submission.expiry_day = rules.earning_days(in_force.programme.day(sale_ms))
