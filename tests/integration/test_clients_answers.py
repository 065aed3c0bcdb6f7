"""Both clients bring every request to its answer: with the same id again after a lost one, BUSY or a passing error."""

from dataclasses import replace

import pytest

from protocol.answers import Balance, encode_body
from protocol.codes import ErrorCode, Outcome
from protocol.requests import Request
from protocol.ticket import Refused, Reply
from tests.rigs.clients_rig import QUICK, MemoryStore, Runner, new_redeem, only_reply, run, server
from tests.rigs.misbehaving_server import LIMITS, MisbehavingServer, Till

__all__ = ["run", "server"]


def test_an_answer(server: MisbehavingServer, run: Runner) -> None:
    request, store = new_redeem(), MemoryStore()
    reply = only_reply(run(server.port, request, store=store))
    assert (reply.outcome, reply.points, reply.request_id, reply.replayed) == (0, 500, request.request_id, False)
    assert reply.balance == Balance(750, 0, 0, 0, 0, 0)
    assert server.requests == [request]
    assert store.log == ["put REDEEM", "done REDEEM"]


def test_a_decline_is_an_answer(server: MisbehavingServer, run: Runner) -> None:
    declined = encode_body(Outcome.INSUFFICIENT, 0, 0, None)
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, False, declined)]
    assert only_reply(run(server.port, new_redeem())).outcome == Outcome.INSUFFICIENT
    assert len(server.requests) == 1


def test_many_in_flight_and_answers_in_another_order(server: MisbehavingServer, run: Runner) -> None:
    requests = [new_redeem() for _ in range(20)]

    def answer_backwards(till: Till, _: Request) -> None:
        if len(server.requests) == len(requests):
            for request in reversed(server.requests):
                till.approve(request)

    server.script = [answer_backwards] * len(requests)
    replies = run(server.port, *requests)
    assert [reply.request_id for reply in replies] == [request.request_id for request in requests]
    assert server.connections == 1


def test_no_more_in_flight_than_the_server_allows(server: MisbehavingServer, run: Runner) -> None:
    server.limits = LIMITS._replace(in_flight_max=3)
    requests = [new_redeem() for _ in range(10)]
    assert all(isinstance(reply, Reply) for reply in run(server.port, *requests))
    assert server.requests == requests


def test_a_dropped_answer_is_fetched_with_the_same_id(server: MisbehavingServer, run: Runner) -> None:
    server.script = [Till.take_effect_without_answer]
    request = new_redeem(ttl_ms=40)
    reply = only_reply(run(server.port, request))
    assert reply.replayed
    assert len(server.requests) > 1
    assert set(server.requests) == {request}
    assert server.connections == 1, "the line answered PING, so it is alive"
    assert server.pings >= 1


def test_a_line_cut_in_the_middle_of_the_answer(server: MisbehavingServer, run: Runner) -> None:
    server.script = [Till.cut_in_the_middle_of_the_answer]
    request = new_redeem()
    assert only_reply(run(server.port, request)).replayed
    assert server.requests == [request, request]
    assert server.connections == 2


def test_a_dead_line_is_noticed_and_replaced(server: MisbehavingServer, run: Runner) -> None:
    def fall_silent(till: Till, request: Request) -> None:
        till.take_effect_without_answer(request)
        till.silent = True

    server.script = [fall_silent]
    request = new_redeem(ttl_ms=40)
    assert only_reply(run(server.port, request, timing=replace(QUICK, pong_ms=100))).replayed
    assert server.connections > 1
    assert set(server.requests) == {request}


def test_busy_is_waited_out(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda till, request: till.refuse(request, ErrorCode.BUSY, 30)] * 2
    request = new_redeem()
    assert only_reply(run(server.port, request)).approved
    assert server.requests == [request] * 3


@pytest.mark.parametrize("code", [ErrorCode.EXPIRED, ErrorCode.UNAVAILABLE, 4711])
def test_errors_that_are_tried_again(server: MisbehavingServer, run: Runner, code: int) -> None:
    server.script = [lambda till, request: till.connection.send_error(request.request_id, code, "", 0)]
    request = new_redeem()
    assert only_reply(run(server.port, request)).approved
    assert server.requests == [request, request]


@pytest.mark.parametrize("code", [ErrorCode.MALFORMED, ErrorCode.UNSUPPORTED, ErrorCode.ID_REUSED])
def test_errors_that_are_final(server: MisbehavingServer, run: Runner, code: ErrorCode) -> None:
    server.script = [lambda till, request: till.refuse(request, code)]
    store = MemoryStore()
    (failure,) = run(server.port, new_redeem(), store=store)
    assert isinstance(failure, Refused)
    assert (failure.code, failure.text) == (code, "because")
    assert len(server.requests) == 1
    assert store.held == {}


def test_the_same_id_cannot_be_under_way_twice(server: MisbehavingServer, run: Runner) -> None:
    request = new_redeem()
    with pytest.raises(ValueError, match="id"):
        run(server.port, request, request)
