#!/usr/bin/env python3
"""Seals and opens what mosquitto_pub and mosquitto_sub carry: a register of its own, without Tillwire's packages.

Needs `pip install cryptography msgpack` and the relay's credential in TILLWIRE_RELAY_CREDENTIAL; protocol/SPEC.md,
section 25, says why each line is as it is. Payloads come from standard input and go to standard output:

    topic                   print the topic under which everything of this relay lies
    hello                   write HELLO
    welcome                 read WELCOME
    to                      print the topic for what follows
    balance REGISTER CARD   write a BALANCE of an EAN-13 card by a register of the store
    open                    read what headquarters says; exit status 3 when it is no reply to what was asked

Between the calls the session stands in the file that SESSION names. Remove it afterwards: a session is used once.
"""
# ruff: noqa: T201

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HELLO, WELCOME, DATA, GOODBYE = 1, 2, 3, 4
REQUEST, REPLY, BALANCE, ANSWER = 1, 17, 16, 64
SEAL_NONCE_BYTES, NO_REPLY_YET = 12, 3

_, NETWORK, STORE, CODE, GENERATION, PACKED_KEY = os.environ["TILLWIRE_RELAY_CREDENTIAL"].strip().split("/")
KEY = base64.urlsafe_b64decode(PACKED_KEY + "=")
TOPIC = f"tillwire/1/{NETWORK}/{STORE}/{CODE}"
SESSION = Path(os.environ.get("SESSION", "session.json"))


def seal_for(purpose: str, salt: bytes) -> AESGCM:
    """Return the seal for one purpose (25.4)."""
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose.encode()).derive(KEY))


def packed(*fields: Any) -> bytes:
    """Return a MessagePack array."""
    return bytes(msgpack.packb(fields))


def bound(relay_nonce: bytes) -> bytes:
    """Return what the handshake's seals vouch for beside their content."""
    return f"1 {TOPIC} {GENERATION} ".encode() + relay_nonce


def by_sequence(sequence: int) -> bytes:
    """Return the nonce of a publication of a session."""
    return sequence.to_bytes(SEAL_NONCE_BYTES, "big")


def keep(**changes: Any) -> None:
    """Note how the session is; only this user may read it."""
    state = json.loads((SESSION.exists() and SESSION.read_text()) or "{}")
    with os.fdopen(os.open(SESSION, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state | changes, file)


def hello() -> bytes:
    """Return HELLO (25.5)."""
    relay_nonce, seal_nonce = os.urandom(16), os.urandom(SEAL_NONCE_BYTES)
    content = packed(time.time_ns() // 1_000_000, "mqtt_register 1.0")
    sealed = seal_for("tillwire hello", relay_nonce).encrypt(seal_nonce, content, bound(relay_nonce))
    keep(relay_nonce=relay_nonce.hex(), sent=0, heard=[])
    return packed(HELLO, 1, CODE, int(GENERATION), relay_nonce, seal_nonce + sealed)


def welcome(payload: bytes) -> None:
    """Take WELCOME: another bridge than headquarters' cannot make one."""
    kind, bridge, relay_nonce, sealed = msgpack.unpackb(payload)[:4]
    if kind == GOODBYE:
        sys.exit(f"headquarters says GOODBYE: {sealed}")
    if relay_nonce.hex() != json.loads(SESSION.read_text())["relay_nonce"]:
        sys.exit("this answers another HELLO")
    nonce, sealed = sealed[:SEAL_NONCE_BYTES], sealed[SEAL_NONCE_BYTES:]
    content = seal_for("tillwire welcome", relay_nonce).decrypt(nonce, sealed, bound(relay_nonce) + bridge.encode())
    session_id, server_time_ms = msgpack.unpackb(content)[:2]
    # The clock that does not jump is the same for all programs on this computer.
    keep(session_id=session_id.hex(), bridge=bridge, ahead_ms=server_time_ms - time.monotonic_ns() // 1_000_000)


def session() -> tuple[dict[str, Any], bytes, bytes]:
    """Return the session, its id and the salt of its keys."""
    state = json.loads(SESSION.read_text())
    session_id = bytes.fromhex(state["session_id"])
    return state, session_id, bytes.fromhex(state["relay_nonce"]) + session_id


def balance(register: str, card: str) -> bytes:
    """Return DATA with one BALANCE (9.1)."""
    state, session_id, salt = session()
    sequence = state["sent"] + 1
    request_id = os.urandom(16)
    # Noted before it is used: a sequence that came twice would give the key away.
    keep(sent=sequence, asked=request_id.hex())
    request = packed(BALANCE, request_id, 0, [1, card])
    sent_ms = state["ahead_ms"] + time.monotonic_ns() // 1_000_000
    content = packed(sent_ms, [[REQUEST, register, request, None, None]])
    sealed = seal_for("tillwire session up", salt).encrypt(by_sequence(sequence), content, session_id)
    return packed(DATA, session_id, sequence, sealed)


def open_data(payload: bytes) -> str | None:
    """Return the reply to what was asked, None if it is not in this publication."""
    state, session_id, salt = session()
    kind, about, sequence, sealed = msgpack.unpackb(payload)[:4]
    if kind != DATA or about != session_id or sequence in state["heard"]:
        return None
    keep(heard=[*state["heard"], sequence])
    content = seal_for("tillwire session down", salt).decrypt(by_sequence(sequence), sealed, session_id)
    for item in msgpack.unpackb(content)[2]:
        if item[0] == REPLY:
            reply = msgpack.unpackb(item[2])
            if reply[1].hex() == state["asked"]:
                return told(reply)
    return None


def told(reply: list[Any]) -> str:
    """Return an ANSWER to BALANCE (10) or an ERROR (12) in words."""
    if reply[0] != ANSWER:
        return f"error {reply[2]}: {reply[3]}"
    outcome, _, _, found = reply[3][:4]
    return f"outcome {outcome}" + ("" if found is None else f", available {found[0]}, pending {found[2]}")


def main(command: str, *arguments: str) -> None:
    """Do one of the things above."""
    if command in ("hello", "balance"):
        sys.stdout.buffer.write(hello() if command == "hello" else balance(*arguments))
    elif command == "welcome":
        welcome(sys.stdin.buffer.read() or sys.exit("headquarters is silent"))
    elif command == "open":
        print(open_data(sys.stdin.buffer.read()) or sys.exit(NO_REPLY_YET))
    else:
        print(TOPIC if command == "topic" else f"{TOPIC}/to/{session()[0]['bridge']}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] and not sys.argv[1].startswith("-") else sys.exit(__doc__)
