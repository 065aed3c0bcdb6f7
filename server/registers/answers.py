"""Makes answer bodies for the ledger: what was decided, the balance, and the slip lines of the network's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from ledger.programme import Network, Programme, Rules
from ledger.slip import SlipTemplates, TemplateError, calendar_day
from protocol.answers import (
    GREETING_CHARACTERS_MAX,
    balance_detail,
    encode_body,
    hold_detail,
    provisional_detail,
    status_detail,
)
from protocol.codes import Message, Outcome, StatusState

_BALANCE = int(Message.BALANCE)
_DETAILED = frozenset({_BALANCE, int(Message.HOLD)})
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
        self._compiled: dict[int, _Compiled] = {}

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
        slip: Sequence[str] = ()
        if balance is not None:
            available, held, pending, owed, expiring, expiring_day = balance
            shown = (available, held, pending, owed, expiring, calendar_day(expiring_day))
            templates = self._templates(network_id)
            if templates is not _NO_SLIP:
                slip = templates.lines(op, outcome, points, earned, shown)
        if outcome <= _APPROVED_LAST and op in _DETAILED:
            packed = balance_detail(_printable(greeting)) if op == _BALANCE else hold_detail(detail)
            return encode_body(outcome, points, earned, shown, slip, packed)
        return encode_body(outcome, points, earned, shown, slip)

    def provisional(self, outcome: int, balance: Sequence[int]) -> bytes:
        """Return the body of a BALANCE that was decided without the journal: no slip, which cannot be marked."""
        available, held, pending, owed, expiring, expiring_day = balance
        shown = (available, held, pending, owed, expiring, calendar_day(expiring_day))
        return encode_body(outcome, 0, 0, shown, (), provisional_detail())

    def status(self, state: int, original_body: bytes | None) -> bytes:
        """Return the body that tells what became of a request."""
        return encode_body(Outcome.APPROVED, 0, 0, None, (), status_detail(StatusState(state), original_body))

    def _templates(self, network_id: int) -> SlipTemplates:
        compiled = self._compiled.get(network_id)
        programme = self._programme()
        if compiled is None or compiled.programme is not programme:
            network = programme.networks.get(network_id)
            if network is None:
                return _NO_SLIP
            compiled = self._compiled[network_id] = _Compiled(programme, network)
        return compiled.at(self._now_ms) if compiled.changes else compiled.templates


class _Compiled:
    """The slips of a network: as long as nothing changes in time, the clock need not be asked for them."""

    __slots__ = ("_network", "_rules", "changes", "programme", "templates")

    def __init__(self, programme: Programme, network: Network) -> None:
        self.programme = programme
        self.changes = len(network.rules) > 1
        self._network = network
        self._use(network.rules[0])

    def at(self, now_ms: Callable[[], int]) -> SlipTemplates:
        rules = self._network.rules_at(now_ms())
        if rules is not self._rules:
            self._use(rules)
        return self.templates

    def _use(self, rules: Rules) -> None:
        self._rules = rules
        try:
            self.templates = SlipTemplates(rules.slip) if rules.slip else _NO_SLIP
        except TemplateError as error:
            # An answer matters more than its slip: the rules were to be checked before they came into force.
            _log.error("slip left out", network=self._network.network_id, reason=str(error))
            self.templates = _NO_SLIP


def _printable(greeting: str | None) -> str | None:
    """Return a greeting as the wire allows it: no control characters, not too long (SPEC.md, values and limits)."""
    if greeting is None or (greeting.isprintable() and len(greeting) <= GREETING_CHARACTERS_MAX):
        return greeting
    return "".join(character for character in greeting if character.isprintable())[:GREETING_CHARACTERS_MAX]
