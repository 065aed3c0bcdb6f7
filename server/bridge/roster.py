"""Whom a relay may let sign on."""

from __future__ import annotations

from typing import Final

import structlog

from ledger.programme import Programme, Terminal
from protocol.relay_messages import RedeemRules, Roster, RosterTerminal
from protocol.session import NETWORK_NAME_CHARACTERS_MAX
from server.bridge.session import Session

TERMINALS_MAX: Final = 250
"""Terminals of one store in a roster."""

_log = structlog.get_logger(subject="bridge")


def roster_of(session: Session, programme: Programme, now_ms: int) -> Roster | None:
    """Return the roster as of the session's version, with the rules in force now (ms since 1970 UTC).

    None if the relay's network has vanished.
    """
    relay = session.relay
    network = programme.networks.get(relay.terminal.network_id)
    if network is None:
        return None
    rules = network.rules_at(now_ms)
    # Suspended ones are named too, so that a register hears why; but never instead of one that works.
    terminals = sorted(session.terminals.values(), key=lambda terminal: not terminal.active)
    if len(terminals) > TERMINALS_MAX:
        _log.warning("a store has more terminals than fit into a roster", relay=relay.terminal.code, max=TERMINALS_MAX)
    return Roster(
        session.version,
        network.name[:NETWORK_NAME_CHARACTERS_MAX],
        network.currency,
        relay.allowance_points,
        relay.allowance_ms,
        tuple(_entry(terminal) for terminal in terminals[:TERMINALS_MAX]),
        RedeemRules(rules.redeem_min, rules.redeem_max, rules.share_bp),
    )


def _entry(terminal: Terminal) -> RosterTerminal:
    return RosterTerminal(
        terminal.code,
        terminal.active,
        tuple(sorted(terminal.permitted)),
        terminal.salt,
        terminal.iterations,
        terminal.stored_key,
        terminal.server_key,
    )
