"""Both clients in the same scenarios, against a small server on the sans-I/O connection that misbehaves on demand."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from protocol.blocking import BlockingClient
from protocol.client import Client
from protocol.requests import Card, EarnRequest, Receipt, RedeemRequest, Request
from protocol.retry import Backoff
from protocol.ticket import Reply, Unanswered
from protocol.ticket_book import Timing
from tests.rigs.misbehaving_server import SECRET, MisbehavingServer

CARD = Card(1, "2000000000015")
RECEIPT = Receipt(2500, "EUR", "0042-1")
QUICK = Timing(
    connect_ms=1_000,
    answer_margin_ms=0,
    pong_ms=10_000,
    patience_ms=30_000,
    reversal_patience_ms=30_000,
    backoff=Backoff(first_ms=4, cap_ms=20),
)


@dataclass
class MemoryStore:
    """What a register's store would hold after each call."""

    held: dict[bytes, Request] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def put(self, request: Request) -> None:
        self.held[request.request_id] = request
        self.log.append(f"put {request.op.name}")

    def replace(self, original: Request, reversal: Request) -> None:
        del self.held[original.request_id]
        self.held[reversal.request_id] = reversal
        self.log.append(f"replace {original.op.name}")

    def done(self, request_id: bytes) -> None:
        self.log.append(f"done {self.held.pop(request_id).op.name}")


def _run_blocking(requests: list[Request], port: int, options: dict[str, Any]) -> list[Reply | Unanswered]:
    with BlockingClient("127.0.0.1", port, "T-0001", **options) as client:
        return client.request_many(requests)


async def _run_asyncio(requests: list[Request], port: int, options: dict[str, Any]) -> list[Reply | Unanswered]:
    async with Client("127.0.0.1", port, "T-0001", **options) as client:
        results = await asyncio.gather(*[client.request(request) for request in requests], return_exceptions=True)
    for result in results:
        if not isinstance(result, Reply | Unanswered):
            raise result
    return results  # type: ignore[return-value]


Runner = Callable[..., list[Reply | Unanswered]]


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    def runner(server_port: int, *requests: Request, **options: Any) -> list[Reply | Unanswered]:
        options = {"secret": SECRET, "timing": QUICK, **options}
        if request.param == "blocking":
            return _run_blocking(list(requests), server_port, options)
        loop_factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=loop_factory) as loop:
            return loop.run(_run_asyncio(list(requests), server_port, options))

    return runner


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer()
    yield server
    server.close()


_ids = iter(range(1, 10**6))


def new_redeem(ttl_ms: int = 0) -> RedeemRequest:
    return RedeemRequest(next(_ids).to_bytes(16), ttl_ms, CARD, 500, RECEIPT)


def new_earn() -> EarnRequest:
    return EarnRequest(next(_ids).to_bytes(16), 0, CARD, RECEIPT, None, 0)


def only_reply(results: list[Reply | Unanswered]) -> Reply:
    assert len(results) == 1
    assert isinstance(results[0], Reply), results[0]
    return results[0]
