"""What makes a terminal a relay: what it may do, keys that nobody signs on with, its credential, its allowances."""

from __future__ import annotations

import os

from protocol import scram
from protocol.codes import Message
from protocol.relay_keys import RelayCredential, relay_key

#: What a relay asks for itself: points set aside to be spent while it is alone, and those given back.
PERMITTED = (int(Message.HOLD), int(Message.RELEASE))
#: How long those points may be spent without a line. What is set aside in one store can be spent in no other one.
ALLOWANCE_MS_MIN, ALLOWANCE_MS, ALLOWANCE_MS_MAX = 60_000, 86_400_000, 604_800_000


def nobodys_credentials() -> scram.Credentials:
    """Return keys that belong to no secret: over TCP nobody signs on as a relay."""
    salt, stored_key, server_key = (os.urandom(size) for size in (scram.SALT_BYTES, scram.KEY_BYTES, scram.KEY_BYTES))
    return scram.Credentials(salt, scram.ITERATIONS, stored_key, server_key)


def credential_line(master: bytes, network_id: int, store_id: int, code: str, generation: int) -> str:
    """Return the one line that a relay is given; `master` is what the keys of all relays are derived from."""
    key = relay_key(master, code, generation)
    return str(RelayCredential(str(network_id), str(store_id), code, generation, key))
