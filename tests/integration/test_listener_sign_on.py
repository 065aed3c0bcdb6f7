"""Who may sign on to the listener, over TLS or not, and who is sent away after all when that changes."""

import secrets
from dataclasses import replace

import pytest

from protocol.codes import Goodbye, Message
from protocol.messages import AnswerMessage
from protocol.scram import ClientExchange, credentials
from protocol.session import Hello, Proof, Welcome
from tests.rigs.listener_rig import CONNECTION_LIMITS, SALTED, SECRET, Shop, redeem, shop, until

__all__ = ["shop"]


async def test_a_register_signs_on_and_is_told_what_holds(shop: Shop) -> None:
    welcome = await (await shop.connect()).sign_on()
    assert welcome.limits == CONNECTION_LIMITS.announced()
    assert (welcome.profile.network_name, welcome.profile.currency) == ("Corner shops", "EUR")
    assert set(welcome.profile.permitted) == {Message.BALANCE, Message.REDEEM, Message.REVERSE, Message.STATUS}


@pytest.mark.parametrize(("code", "secret"), [("T-0001", "wrong-wrong"), ("T-9999", SECRET)])
async def test_wrong_credentials_and_unknown_terminals_look_alike(shop: Shop, code: str, secret: str) -> None:
    till = await shop.connect()
    answer = await till.sign_on(code, secret)
    assert (answer.reason, answer.reconnect_after_ms) == (Goodbye.AUTH_FAILED, 0)
    assert answer.text == "the nonce or the proof is wrong"


async def test_an_unknown_terminal_has_one_salt_for_ever(shop: Shop) -> None:
    salts = set()
    for _ in range(3):
        till = await shop.connect()
        till.send(Hello((1,), "T-9999", "n,,n=T-9999,r=abcdefgh", ""))
        challenge = await till.receive()
        salts.add(challenge.server_first.split(",")[1])
    assert len(salts) == 1


async def test_a_suspended_terminal_is_refused_after_its_proof(shop: Shop) -> None:
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", active=False)
    answer = await (await shop.connect()).sign_on()
    assert answer.reason == Goodbye.SUSPENDED
    wrong = await (await shop.connect()).sign_on("T-0001", "wrong-wrong")
    assert wrong.reason == Goodbye.AUTH_FAILED


async def test_while_terminals_cannot_be_looked_up_registers_come_back_later(shop: Shop) -> None:
    shop.ledger.down = True
    answer = await (await shop.connect()).sign_on()
    assert answer.reason == Goodbye.BUSY
    assert answer.reconnect_after_ms >= 1_000


async def test_a_terminal_suspended_while_connected_is_sent_away(shop: Shop) -> None:
    till, other = await shop.till(), await shop.till("T-0002")
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", active=False)
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    assert await till.farewell() == Goodbye.SUSPENDED
    other.send(redeem(5))
    assert isinstance(await other.receive(), AnswerMessage)


async def test_a_terminal_whose_secret_was_replaced_must_sign_on_with_the_new_one(shop: Shop) -> None:
    till, other = await shop.till(), await shop.till("T-0002")
    fresh = credentials("a-new-secret", b"n" * 16, 4096)
    shop.ledger.enrolled["T-0001"] = shop.ledger.known(
        "T-0001", salt=fresh.salt, stored_key=fresh.stored_key, server_key=fresh.server_key
    )
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    assert await till.farewell() == Goodbye.AUTH_FAILED
    other.send(redeem(5))
    assert isinstance(await other.receive(), AnswerMessage)
    assert (await (await shop.connect()).sign_on()).reason == Goodbye.AUTH_FAILED
    assert isinstance(await (await shop.connect()).sign_on("T-0001", "a-new-secret"), Welcome)


async def test_a_terminal_suspended_during_its_handshake_is_sent_away(shop: Shop) -> None:
    till = await shop.connect()
    exchange = ClientExchange("T-0001", SECRET, secrets.token_urlsafe(18), SALTED)
    till.send(Hello((1,), "T-0001", exchange.client_first, ""))
    challenge = await till.receive()
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", active=False)
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    till.send(Proof(exchange.respond(challenge.server_first)))
    assert await till.farewell() == Goodbye.SUSPENDED


async def test_all_connected_terminals_are_looked_up_by_one_query(shop: Shop) -> None:
    tills = [await shop.till(f"T-{number:04d}") for number in (1, 2)]
    before = len(shop.ledger.looked_up)
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    await until(lambda: len(shop.ledger.looked_up) > before)
    assert shop.ledger.looked_up[before:] == [len(tills)]


async def test_a_permission_taken_away_holds_for_open_connections(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", permitted=frozenset())
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    permitted = True
    while permitted:
        till.send(redeem(5))
        await till.receive()
        permitted = shop.ledger.taken[-1].permitted
