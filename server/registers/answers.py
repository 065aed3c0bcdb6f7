"""Makes answer bodies for the ledger: what was decided, the balance, and the slip lines of the network's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from ledger.programme import Programme, Rules
from protocol.answers import (
    GREETING_CHARACTERS_MAX,
    balance_detail,
    encode_body,
    hold_detail,
    provisional_detail,
    status_detail,
)
from protocol.codes import Message, Outcome, StatusState
from server.registers.slip import SlipTemplates, TemplateError, calendar_day, check_template

__all__ = ["AnswerRenderer", "check_programme", "check_template"]

_SPENDS = frozenset({int(Message.REDEEM), int(Message.SALE), int(Message.CAPTURE)})
_GIVES_BACK = frozenset({int(Message.RELEASE), int(Message.REFUND), int(Message.REVERSE)})
_BALANCE = int(Message.BALANCE)
_HOLD = int(Message.HOLD)
_APPROVED_LAST = int(Outcome.APPROVED_PARTIAL)
_NO_SLIP = SlipTemplates(())

_log = structlog.get_logger(subject="slips")


def check_programme(programme: Programme) -> None:
    """Raise `TemplateError` for the first slip line of any network that cannot be printed."""
    for network in programme.networks.values():
        for rules in network.rules:
            SlipTemplates(rules.slip)


class AnswerRenderer:
    """`ledger.rendering.Renderer`: deterministic for given rules; templates are compiled once per rules object."""

    def __init__(self, programme: Callable[[], Programme], now_ms: Callable[[], int]) -> None:
        """Take the current programme and the clock (milliseconds since 1970) that picks the rules in force."""
        self._programme = programme
        self._now_ms = now_ms
        self._compiled: dict[int, tuple[Rules, SlipTemplates]] = {}

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
        """Return the body of a decision (SPEC.md, answer body); the arguments are those of the Protocol."""
        shown: tuple[int, int, int, int, int, int] | None = None
        slip: list[str] = []
        if balance is not None:
            shown = _shown(balance)
            slip = self._slip(op, network_id, outcome, points, earned, shown)
        if outcome <= _APPROVED_LAST:
            if op == _BALANCE:
                return encode_body(outcome, points, earned, shown, slip, balance_detail(_printable(greeting)))
            if op == _HOLD:
                return encode_body(outcome, points, earned, shown, slip, hold_detail(detail))
        return encode_body(outcome, points, earned, shown, slip)

    def provisional(self, outcome: int, balance: Sequence[int]) -> bytes:
        """Return the body of a BALANCE that was decided without the journal: no slip, which cannot be marked."""
        return encode_body(outcome, 0, 0, _shown(balance), (), provisional_detail())

    def status(self, state: int, original_body: bytes | None) -> bytes:
        """Return the body that tells what became of a request."""
        return encode_body(Outcome.APPROVED, 0, 0, None, (), status_detail(StatusState(state), original_body))

    def _slip(
        self,
        op: int,
        network_id: int,
        outcome: int,
        points: int,
        earned: int,
        shown: tuple[int, int, int, int, int, int],
    ) -> list[str]:
        templates = self._templates(network_id)
        if outcome > _APPROVED_LAST:
            return templates.declined((0, 0, 0, 0, *shown))
        return templates.approved(
            (
                points if op in _SPENDS else 0,
                max(earned, 0),
                points if op in _GIVES_BACK else 0,
                max(-earned, 0),
                *shown,
            )
        )

    def _templates(self, network_id: int) -> SlipTemplates:
        network = self._programme().networks.get(network_id)
        if network is None:
            return _NO_SLIP
        rules = network.rules_at(self._now_ms())
        compiled = self._compiled.get(network_id)
        if compiled is not None and compiled[0] is rules:
            return compiled[1]
        try:
            templates = SlipTemplates(rules.slip)
        except TemplateError as error:
            # An answer matters more than its slip: the rules were to be checked before they came into force.
            _log.error("slip left out", network=network_id, reason=str(error))
            templates = _NO_SLIP
        self._compiled[network_id] = (rules, templates)
        return templates


def _shown(balance: Sequence[int]) -> tuple[int, int, int, int, int, int]:
    available, held, pending, owed, expiring, expiring_day = balance
    return available, held, pending, owed, expiring, calendar_day(expiring_day)


def _printable(greeting: str | None) -> str | None:
    """Return a greeting as the wire allows it: no control characters, not too long (SPEC.md, values and limits)."""
    if greeting is None or (greeting.isprintable() and len(greeting) <= GREETING_CHARACTERS_MAX):
        return greeting
    return "".join(character for character in greeting if character.isprintable())[:GREETING_CHARACTERS_MAX]
