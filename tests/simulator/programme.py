"""The little coalition that every scenario plays in: two chains, some tills, a few cards that all of them want."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache

from ledger.card_tokens import token_hash
from ledger.programme import Rules
from ledger.states import first_state
from protocol.codes import CardKind, Message
from protocol.requests import Card
from protocol.scram import ITERATIONS_MIN, Credentials, SaltedKey, credentials, salted_key
from server.secrets import Secrets
from tests.simulator.postgres_tables import Tables

SECRETS = Secrets(b"t" * 32, b"s" * 32, b"c" * 32, b"p" * 32)
_EVERYTHING = [int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE]
_ISSUED, _ACTIVE = 0, 1


@dataclass(frozen=True)
class Till:
    """A terminal and what makes it known."""

    code: str
    network_id: int
    secret: str
    salted: SaltedKey


@cache
def _keys(code: str) -> tuple[str, SaltedKey, Credentials]:
    """Return secret and keys of a terminal; the fewest iterations that the protocol allows, worked out once."""
    secret, salt = f"secret of {code}", code.encode().ljust(16, b".")[:16]
    return secret, salted_key(secret, salt, ITERATIONS_MIN), credentials(secret, salt, ITERATIONS_MIN)


def till(number: int) -> Till:
    """Return a till by its number; every fourth is of the other chain."""
    code = f"till-{number}"
    secret, salted, _ = _keys(code)
    return Till(code, 2 if number % 4 == 3 else 1, secret, salted)


def card(number: int) -> Card:
    """Return the card that is presented; its account has the next number."""
    return Card(CardKind.VIRTUAL, f"simulated-{number:04d}")


def tables(rules: Rules, other_rules: Rules, tills: int, active: int, issued: int, partitions: int) -> Tables:
    """Return a database with the programme and cards without points; the `issued` ones come last."""
    made = Tables()
    rows = made.rows
    rows["programme"][True] = {"version": 1, "time_zone": "UTC", "partitions": partitions}
    for network_id, each in ((1, rules), (2, other_rules)):
        rows["network"][network_id] = {"partner_id": network_id, "name": f"Chain {network_id}", "currency": "EUR"}
        rows["rules"][network_id] = [{**asdict(each), "slip": list(each.slip)}]
    for number in range(tills):
        known = till(number)
        keys = _keys(known.code)[2]
        rows["terminal"][known.code] = {
            "terminal_id": number + 1, "code": known.code, "network_id": known.network_id,
            "store_id": known.network_id, "permitted": _EVERYTHING, "active": True, "salt": keys.salt,
            "iterations": keys.iterations, "stored_key": keys.stored_key, "server_key": keys.server_key,
        }  # fmt: skip
    for number in range(active + issued):
        presented = card(number)
        assert presented.token is not None
        token = token_hash(presented.token, SECRETS.token_key)
        account, status = number + 1, _ACTIVE if number < active else _ISSUED
        rows["account"][account] = {
            "account_id": account, "seq": 0, "link": 0, "balance": 0, "held": 0, "owed": 0, "due_ms": None,
            "state": first_state(account, [(token, status)]),
        }  # fmt: skip
        rows["card"][token] = {
            "token": token, "account_id": account, "status": status, "kind": int(CardKind.VIRTUAL),
            "masked": f"…{number}",
        }  # fmt: skip
    for number in range(partitions):
        rows["partition"][number] = {
            "epoch": 0, "generation": 1, "mark": 0, "served": 0, "served_by": "", "standby": False, "owner": "",
            "wanted_by": "",
        }  # fmt: skip
    return made
