"""Signing on as a register does, without a socket: against what a ledger knows of the terminal now."""

from __future__ import annotations

import secrets

from ledger.ledger import Ledger
from protocol.scram import AuthenticationFailed, ClientExchange, Credentials, ServerExchange


async def signs_on(ledger: Ledger, code: str, secret: str) -> bool:
    """Return whether a terminal gets in with this secret."""
    terminal = (await ledger.terminals([code])).get(code)
    if terminal is None or not terminal.active:
        return False
    known = Credentials(terminal.salt, terminal.iterations, terminal.stored_key, terminal.server_key)
    client = ClientExchange(code, secret, secrets.token_hex(18))
    server = ServerExchange(client.client_first)
    proof = client.respond(server.challenge(known, secrets.token_hex(18)))
    try:
        client.verify(server.verify(proof))
    except AuthenticationFailed:
        return False
    return True
