"""Relays in sentences: whether one is heard, what waits in it, and what it may do alone."""

from __future__ import annotations

from dataclasses import dataclass

from admin_api.coalition.relays import Relay
from admin_api.console.account_words import when
from admin_api.console.words import Words


@dataclass(frozen=True, slots=True)
class RelayTold:
    """A relay in words; `alarm` if somebody should look after it."""

    relay: Relay
    line: str
    waiting: str
    alone: str
    allowance: str
    alarm: bool


def relay_told(words: Words, relay: Relay, now_ms: int) -> RelayTold:
    """Return a relay in words."""
    alone = relay.offline_since_ms
    return RelayTold(
        relay=relay,
        line=_line(words, relay, now_ms),
        waiting=_waiting(words, relay),
        alone=words.t("relay.alone", moment=when(words, alone)) if alone else "",
        allowance=allowance_sentence(words, relay),
        alarm=relay.works and relay.line != "up",
    )


def allowance_sentence(words: Words, relay: Relay) -> str:
    """Return what may be spent while the relay has no line."""
    if not relay.allowance_points:
        return words.t("relay.allowance_none")
    points, span = words.points(relay.allowance_points), words.span(relay.allowance_ms)
    return words.t("relay.allowance_some", points=points, span=span)


def _line(words: Words, relay: Relay, now_ms: int) -> str:
    if relay.heard_ms is None:
        return words.t("relay.never_heard")
    if not relay.works:
        return words.t("relay.last_heard", moment=when(words, relay.heard_ms))
    if relay.line == "up":
        return words.t("relay.is_up", ago=words.ago(now_ms - relay.heard_ms))
    return words.t("relay.is_silent", moment=when(words, relay.heard_ms), ago=words.ago(now_ms - relay.heard_ms))


def _waiting(words: Words, relay: Relay) -> str:
    if relay.queued is None:
        return words.t("relay.waiting_unknown")
    if not relay.queued:
        return words.t("relay.waiting_nothing" if relay.line == "up" else "relay.waiting_nothing_then")
    told = words.plural("relay.n_waiting", relay.queued)
    return words.t("relay.waiting_since", told=told, moment=when(words, relay.oldest_ms)) if relay.oldest_ms else told
