"""The topics under which relays and bridges meet (SPEC.md, MQTT: topics)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from protocol.relay_keys import derived
from protocol.relay_messages import BACKLOG_SUFFIX
from server.mqtt import SHARED_PREFIX

_ROOT: Final = ("tillwire", "1")
_ANY_RELAY: Final = "/".join((*_ROOT, "+", "+", "+"))
_RELAY_PARTS: Final = 5
_CHARACTERS_MAX: Final = 512

_WILD: Final = re.compile(r"[+#\0]")

HELLOS: Final = f"{_ANY_RELAY}/hello"


class Place(NamedTuple):
    """Where a publication came in: `relay` is the topic under which everything of a relay lies, `code` its end."""

    relay: str
    network: str
    store: str
    code: str
    hello: bool
    bridge: str
    """Whom it is for, if it is no HELLO."""


def shared_hellos(relay_master: bytes) -> str:
    """Return the filter by which all bridges of an installation share the HELLOs of its relays.

    The group's name is a secret: Mosquitto lets anybody join a group, and what falls to one who may not read it is lost
    to the others.
    """
    group = derived(relay_master, "tillwire bridges' group").hex()
    return f"{SHARED_PREFIX}{group}/{HELLOS}"


def inbox(bridge: str) -> str:
    """Return the filter of what is for one bridge and may not wait."""
    return f"{_ANY_RELAY}/to/{bridge}"


def backlog_inbox(bridge: str) -> str:
    """Return the filter of what is for one bridge out of relays' backlogs."""
    return inbox(bridge) + BACKLOG_SUFFIX


def answers(relay: str) -> str:
    """Return where a relay listens."""
    return f"{relay}/answer"


def is_below(relay: str, topic: str) -> bool:
    """Whether one may publish to a topic, and it is a relay's own."""
    return topic.startswith(f"{relay}/") and len(topic) <= _CHARACTERS_MAX and _WILD.search(topic) is None


def place_of(topic: str) -> Place | None:
    """Return where a topic lies, None if no bridge listens there."""
    parts = topic.split("/")
    if len(topic) > _CHARACTERS_MAX or tuple(parts[: len(_ROOT)]) != _ROOT or len(parts) <= _RELAY_PARTS:
        return None
    _, _, network, store, code = parts[:_RELAY_PARTS]
    relay = "/".join(parts[:_RELAY_PARTS])
    match parts[_RELAY_PARTS:]:
        case ["hello"]:
            return Place(relay, network, store, code, hello=True, bridge="")
        case ["to", bridge]:
            return Place(relay, network, store, code, hello=False, bridge=bridge.removesuffix(BACKLOG_SUFFIX))
    return None
