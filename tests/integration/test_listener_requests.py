"""Requests to the listener and what comes back for each: an answer, an error, or BUSY when there are too many."""

import secrets
import struct

import msgpack

from ledger.submission import Refusal
from protocol.codes import ErrorCode, Message
from protocol.messages import ErrorMessage
from protocol.session import Ping
from tests.rigs.listener_rig import Shop, body, redeem, shop, until

__all__ = ["shop"]


async def test_answers_come_back_in_any_order_each_to_its_request(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    requests = [redeem(points) for points in range(1, 11)]
    till.send(*requests)
    await until(lambda: len(shop.ledger.taken) == 10)
    assert [taken.points for taken in shop.ledger.taken] == list(range(1, 11))
    shop.ledger.taken.reverse()
    shop.ledger.answer_all()
    answers = [await till.receive() for _ in requests]
    assert [answer.answer.points for answer in answers] == list(range(10, 0, -1))
    points_of = {request.request_id: request.points for request in requests}
    assert all(points_of[answer.request_id] == answer.answer.points for answer in answers)


async def test_two_copies_of_a_request_in_flight_are_both_answered(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    request = redeem(5)
    till.send(request, request)
    await until(lambda: len(shop.ledger.taken) == 2)
    shop.ledger.answer_all()
    assert [(await till.receive()).request_id for _ in range(2)] == [request.request_id] * 2


async def test_the_answer_is_the_ledgers_bytes(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(redeem(5))
    await until(lambda: bool(shop.ledger.taken))
    taken = shop.ledger.taken.pop()
    taken.reply_to.answer(taken.request_id, body(4), replayed=True)
    answer = await till.receive()
    assert (answer.body, answer.replayed) == (body(4), True)


async def test_a_refusal_becomes_an_error(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(redeem(5))
    await until(lambda: bool(shop.ledger.taken))
    taken = shop.ledger.taken.pop()
    taken.reply_to.refuse(taken.request_id, Refusal.UNAVAILABLE, 70)
    error = await till.receive()
    assert (error.request_id, error.code, error.retry_after_ms) == (taken.request_id, ErrorCode.UNAVAILABLE, 70)


async def test_more_in_flight_than_agreed_are_busy_and_the_others_live(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(*[redeem(points) for points in range(1, 19)])
    errors = [await till.receive() for _ in range(2)]
    assert [error.code for error in errors] == [ErrorCode.BUSY] * 2
    shop.ledger.answer_all()
    assert len([await till.receive() for _ in range(16)]) == 16


async def test_while_the_ledger_has_too_much_to_do_requests_are_not_even_read(shop: Shop) -> None:
    till = await shop.till()
    till.send(redeem(1))
    assert (await till.receive()).answer.points == 1
    shop.ledger.overloaded = True
    till.send(redeem(2))
    await till.receive()
    shop.ledger.taken.clear()
    refused = redeem(3)
    till.send(refused)
    error = await till.receive()
    assert (error.request_id, error.code, error.retry_after_ms) == (refused.request_id, ErrorCode.BUSY, 100)
    assert not shop.ledger.taken
    metrics = shop.reception.metrics
    metrics.flush()
    labels = {"operation": "REDEEM", "code": "BUSY"}
    assert metrics.registry.get_sample_value("tillwire_errors_total", labels) == 1
    shop.ledger.overloaded = False
    till.send(redeem(4))
    assert (await till.receive()).code == ErrorCode.BUSY
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5


async def test_a_malformed_request_is_told_and_the_connection_lives(shop: Shop) -> None:
    till = await shop.till()
    request_id = secrets.token_bytes(16)
    wrong = msgpack.packb([int(Message.REDEEM), request_id, 0, [1, "2000000000015"], -5, [1, "EUR", ""], False])
    unknown = msgpack.packb([60, request_id, 0, [1, "2000000000015"]])
    for payload, code in ((wrong, ErrorCode.MALFORMED), (unknown, ErrorCode.UNSUPPORTED)):
        till.send_bytes(struct.pack(">I", len(payload)) + payload)
        error = await till.receive()
        assert isinstance(error, ErrorMessage)
        assert (error.request_id, error.code) == (request_id, code)
    till.send(Ping(7))
    assert (await till.receive()).nonce == 7


async def test_what_leaves_before_its_answer_harms_nobody(shop: Shop) -> None:
    shop.ledger.hold_back = True
    gone, till = await shop.till(), await shop.till("T-0002")
    gone.send(redeem(1))
    till.send(redeem(2))
    await until(lambda: len(shop.ledger.taken) == 2)
    gone.writer.transport.abort()
    await until(lambda: shop.listener.connections == 1)
    shop.ledger.answer_all()
    assert (await till.receive()).answer.points == 2
