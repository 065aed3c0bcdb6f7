"""What both clients do when nobody knows whether a request took effect: reverse it, keep it, or say that they doubt."""

import socket
from dataclasses import replace

import pytest

from protocol.answers import encode_body
from protocol.codes import ErrorCode, Goodbye, Message, Outcome
from protocol.requests import Request, ReverseRequest
from protocol.ticket import InDoubt, NoAnswer, Refused, Reply
from tests.rigs.clients_rig import CARD, QUICK, MemoryStore, Runner, new_earn, new_redeem, only_reply, run, server
from tests.rigs.misbehaving_server import MisbehavingServer, Till

__all__ = ["run", "server"]


def test_busy_for_ever_ends_without_reversal(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda till, request: till.refuse(request, ErrorCode.BUSY)] * 10_000
    store = MemoryStore()
    (failure,) = run(server.port, new_redeem(), timing=replace(QUICK, patience_ms=60), store=store)
    assert isinstance(failure, Refused)
    assert failure.code == ErrorCode.BUSY
    assert {request.op for request in server.requests} == {Message.REDEEM}
    assert store.held == {}


def test_a_redeem_in_doubt_is_reversed(server: MisbehavingServer, run: Runner) -> None:
    def ignore_redeem(till: Till, request: Request) -> None:
        if request.op is Message.REVERSE:
            till.approve(request)

    server.script = [ignore_redeem] * 10_000
    request, store = new_redeem(ttl_ms=20), MemoryStore()
    reply = only_reply(run(server.port, request, timing=replace(QUICK, patience_ms=80), store=store))
    assert (reply.outcome, reply.points, reply.request_id) == (Outcome.REVERSED, 0, request.request_id)
    assert not reply.approved
    reversal = server.requests[-1]
    assert isinstance(reversal, ReverseRequest)
    assert (reversal.original_id, reversal.card) == (request.request_id, CARD)
    assert reply.reversal_id == reversal.request_id != request.request_id
    assert store.log == ["put REDEEM", "replace REDEEM", "done REVERSE"]


def test_the_reversal_is_repeated_with_its_own_id(server: MisbehavingServer, run: Runner) -> None:
    reversals: list[Request] = []

    def answer_the_third_reversal(till: Till, request: Request) -> None:
        if request.op is Message.REVERSE:
            reversals.append(request)
            if len(reversals) == 3:
                till.approve(request)
            else:
                till.refuse(request, ErrorCode.UNAVAILABLE)

    server.script = [answer_the_third_reversal] * 10_000
    reply = only_reply(run(server.port, new_redeem(ttl_ms=20), timing=replace(QUICK, patience_ms=60)))
    assert reply.outcome == Outcome.REVERSED
    assert len(reversals) == 3
    assert len(set(reversals)) == 1


@pytest.mark.parametrize(
    ("outcome", "settled"), [(Outcome.UNKNOWN_CARD, True), (Outcome.BAD_CARD, True), (Outcome.NOT_PERMITTED, False)]
)
def test_a_declined_reversal(server: MisbehavingServer, run: Runner, outcome: Outcome, settled: bool) -> None:
    def decline_reversal(till: Till, request: Request) -> None:
        if request.op is Message.REVERSE:
            till.connection.send_answer(request.request_id, False, encode_body(outcome, 0, 0, None))

    server.script = [decline_reversal] * 10_000
    store = MemoryStore()
    (result,) = run(server.port, new_redeem(ttl_ms=20), timing=replace(QUICK, patience_ms=60), store=store)
    assert isinstance(result, Reply if settled else InDoubt)
    assert (store.held == {}) == settled


def test_in_doubt_only_if_even_the_reversal_finds_no_answer(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda _till, _request: None] * 10_000
    request, store = new_redeem(ttl_ms=20), MemoryStore()
    timing = replace(QUICK, patience_ms=60, reversal_patience_ms=60)
    (failure,) = run(server.port, request, timing=timing, store=store)
    assert isinstance(failure, InDoubt)
    assert failure.request_id == request.request_id
    (reversal,) = store.held.values()
    assert isinstance(reversal, ReverseRequest)
    assert (reversal.request_id, reversal.original_id) == (failure.reversal_id, request.request_id)


def test_an_earn_in_doubt_is_kept_and_not_reversed(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda _till, _request: None] * 10_000
    request, store = new_earn(), MemoryStore()
    (failure,) = run(server.port, request, timing=replace(QUICK, patience_ms=60), store=store)
    assert isinstance(failure, InDoubt)
    assert failure.reversal_id is None
    assert store.held == {request.request_id: request}
    assert {r.op for r in server.requests} == {Message.EARN}


def test_nobody_there_is_no_doubt(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store, earn = MemoryStore(), new_earn()
    first, second = run(port, new_redeem(), earn, timing=replace(QUICK, patience_ms=80), store=store)
    assert type(first) is NoAnswer
    assert type(second) is NoAnswer
    assert store.held == {earn.request_id: earn}, "what is to be kept is sent later"


def test_a_suspended_terminal_with_a_request_in_doubt(server: MisbehavingServer, run: Runner) -> None:
    def suspend(till: Till) -> bool:
        if till.number == 2:
            till.connection.goodbye(Goodbye.SUSPENDED, "ask the operator")
        return till.number == 1

    server.greeting = suspend
    server.script = [Till.cut_in_the_middle_of_the_answer]
    store = MemoryStore()
    (failure,) = run(server.port, new_redeem(), store=store)
    assert isinstance(failure, InDoubt)
    assert [request.request_id for request in store.held.values()] == [failure.reversal_id]
    assert server.connections == 2
