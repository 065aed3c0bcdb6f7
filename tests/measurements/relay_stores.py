"""Many stores' relays in one process: first they are cut off and sell, later they come back all at once.

The process of tests/measurements/relays.py: told by one line of JSON on its standard input what to do, it answers by
such lines. `sell` fills the stores through the relay's own desk, without a line. `come_back` runs the relays and tells
once a moment how much waits, until its input ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from pydantic import SecretStr

from protocol.codes import ErrorCode
from protocol.relay_messages import LineLimits, ReplyItem, RequestItem, Roster, RosterTerminal
from protocol.requests import Request
from server.observation.logs import configure_logging
from server.population.programme import CURRENCY, relay_terminal
from server.registers.dispatch import Moment
from server.relay.allowances import Allowances
from server.relay.asking import LineDown
from server.relay.balances import Balances
from server.relay.desk import Desk
from server.relay.relay import Relay, desk_limits, store_limits
from server.relay.settings import RelaySettings
from server.relay.store import Store
from tests.measurements.bad_broker import BadBroker, Harm
from tests.measurements.offline_sales import Plan, sales

#: What one store's desk has under way while it is filled; its own registers would be a few.
_AT_ONCE = 256
_TELL_S = 0.5
_GARBAGE = 200_000
#: Each relay writes down how it is once a second; two hundred of them would do little else.
_STATUS_MS = 10_000
_NOBODYS_KEY = bytes(32)


@dataclass(frozen=True, slots=True)
class Stores:
    """Which stores this process has; `credentials` are those of `numbers`."""

    folder: Path
    numbers: tuple[int, ...]
    credentials: tuple[str, ...]
    mqtt_url: str

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Stores:
        return cls(Path(told["folder"]), tuple(told["numbers"]), tuple(told["credentials"]), told["mqtt_url"])

    def settings(self) -> list[RelaySettings]:
        """Return the settings of each relay."""
        return [
            RelaySettings(
                credential=SecretStr(credential),
                mqtt_url=SecretStr(self.mqtt_url),
                data_dir=self.folder / f"store-{number}",
                listen_port=0,
                status_interval_ms=_STATUS_MS,
            )
            for number, credential in zip(self.numbers, self.credentials, strict=True)
        ]


class NoLine:
    """The line of a store that is cut off; it knows what time it is."""

    up = False
    limits: LineLimits | None = None

    def __init__(self) -> None:
        self.now_ms = 0

    def server_now_ms(self) -> int:
        return self.now_ms

    async def ask(self, item: RequestItem, timeout_s: float) -> ReplyItem:
        raise LineDown("cut off")

    def post(self, item: RequestItem, timeout_s: float) -> asyncio.Future[ReplyItem]:
        return asyncio.ensure_future(self.ask(item, timeout_s))


class Told:
    """What the registers of one store were told."""

    def __init__(self) -> None:
        self.approved = 0
        self.others: Counter[str] = Counter()
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    async def ask(self, desk: Desk, request: Request, terminal: RosterTerminal, now_ms: int) -> None:
        loop = asyncio.get_running_loop()
        told = self._waiting[request.request_id] = loop.create_future()
        desk.take(request, terminal, self, Moment(now_ms, loop.time()))
        await told

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        if body[1] == 0 and not replayed:
            self.approved += 1
        else:
            self.others[f"outcome {body[1]}{' replayed' if replayed else ''}"] += 1
        self._waiting.pop(request_id).set_result(None)

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        self.others[f"ERROR {ErrorCode(code).name}: {text}"] += 1
        self._waiting.pop(request_id).set_result(None)


async def sell(stores: Stores, plan: Plan) -> dict[str, Any]:
    """Let each store sell what the plan says, cut off; return what the registers were told."""
    told = Told()
    for number, settings in zip(stores.numbers, stores.settings(), strict=True):
        store = await Store.open(settings.data_dir, store_limits(settings))
        await _sell_in(store, settings, plan, number, told)
        await store.close()
    return {"approved": told.approved, "others": dict(told.others)}


async def _sell_in(store: Store, settings: RelaySettings, plan: Plan, number: int, told: Told) -> None:
    terminal = RosterTerminal(relay_terminal(number, 0), True, tuple(range(256)), b"", 1, _NOBODYS_KEY, _NOBODYS_KEY)
    roster, line = Roster(1, "Load", CURRENCY, 0, 0, (terminal,)), NoLine()
    allowances = Allowances(store, line, lambda: roster, "", os.urandom, 0)
    desk = Desk(store, line, lambda: roster, Balances(store), allowances, desk_limits(settings))
    under_way: set[asyncio.Task[None]] = set()
    for operation in sales(plan, number):
        line.now_ms = operation.sale_ms
        under_way.add(asyncio.create_task(told.ask(desk, operation.request, terminal, operation.sale_ms)))
        # A reversal is made when what it reverses was approved.
        if len(under_way) >= _AT_ONCE or operation.target is not None:
            await asyncio.gather(*under_way)
            under_way.clear()
    await asyncio.gather(*under_way)
    await desk.drain()


class BackRelay(Relay):
    """A relay with a bad broker before it."""

    def __init__(self, settings: RelaySettings, harm: Harm, dice: random.Random) -> None:
        super().__init__(settings)
        self._harm, self._dice = harm, dice

    def _build(self) -> None:
        super()._build()
        self.bad = BadBroker(self._broker, self._harm, self._dice)
        self.line.use(self.bad)
        self._broker._on_message = self.bad.received(self.line.received)


async def come_back(stores: Stores, harm: Harm, seed: int) -> None:
    """Run the relays until standard input ends, and tell how much waits."""
    # Stores have computers of their own: here they get the time that headquarters leaves.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    relays = [
        BackRelay(settings, harm, random.Random(seed + number))  # noqa: S311 - it is chance, not a secret
        for number, settings in zip(stores.numbers, stores.settings(), strict=True)
    ]
    ended = asyncio.ensure_future(reader.read())
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(relay) for relay in relays))
        # The heap of two hundred relays is no relay's: nobody else would walk through it with each collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        while not ended.done():
            did: Counter[str] = Counter()
            for relay in relays:
                did.update(relay.bad.did)
            _tell(
                queued=sum(len(relay.store.queued) for relay in relays),
                conflicts=sum(relay.store.conflicts for relay in relays),
                up=sum(relay.line.up for relay in relays),
                did=dict(did),
                cpu_s=sum(os.times()[:2]),
            )
            await asyncio.wait({ended}, timeout=_TELL_S)


def _tell(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    job = json.loads(sys.stdin.readline())
    configure_logging("warning", "json")
    stores = Stores.from_json(job["stores"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if job["do"] == "sell":
            plan = Plan(**{**job["plan"], "prefix": bytes.fromhex(job["plan"]["prefix"])})
            _tell(**runner.run(sell(stores, plan)))
        else:
            runner.run(come_back(stores, Harm(**job["harm"]), job["seed"]))


if __name__ == "__main__":
    main()
