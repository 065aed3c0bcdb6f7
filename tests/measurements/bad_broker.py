"""A broker as bad as MQTT allows: it doubles publications, lets later ones overtake, and loses some that it took."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from server.mqtt import Message, NotPublished
from server.relay.line import Publisher


@dataclass(frozen=True, slots=True)
class Harm:
    """Shares (0..1) of the publications, each way: that come twice, that are overtaken, that are lost."""

    doubled: float = 0.1
    overtaken: float = 0.1
    lost: float = 0.002
    late_s: float = 0.03


class BadBroker:
    """Stands between a relay's line and its connection to a broker; both ways go through it."""

    def __init__(self, broker: Publisher, harm: Harm, dice: random.Random) -> None:
        self._broker, self._harm, self._dice = broker, harm, dice
        self.did: Counter[str] = Counter()

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._broker.connected

    @property
    def reason(self) -> str:
        """Why it is not."""
        return self._broker.reason

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        expiry_s: float | None = None,
    ) -> asyncio.Future[bool]:
        """Publish as `Broker.publish` does, or do harm. Raises NotPublished."""

        def send() -> asyncio.Future[bool]:
            return self._broker.publish(
                topic, payload, qos=qos, response_topic=response_topic, correlation=correlation, expiry_s=expiry_s
            )

        loop = asyncio.get_running_loop()
        fate = self._dice.random()
        if fate < self._harm.lost:
            self.did["lost"] += 1
            taken: asyncio.Future[bool] = loop.create_future()
            taken.set_result(True)
            return taken
        if fate < self._harm.lost + self._harm.overtaken:
            self.did["overtaken"] += 1
            late: asyncio.Future[bool] = loop.create_future()
            loop.call_later(self._dice.random() * self._harm.late_s, self._send_late, send, late)
            return late
        sent = send()
        if self._dice.random() < self._harm.doubled:
            self.did["doubled"] += 1
            self._later(lambda: self._again(send))
        return sent

    def received(self, to: Callable[[Message], None]) -> Callable[[Message], None]:
        """Return what takes the broker's messages instead of `to`."""

        def harmed(message: Message) -> None:
            fate = self._dice.random()
            if fate < self._harm.lost:
                self.did["lost"] += 1
                return
            if fate < self._harm.lost + self._harm.overtaken:
                self.did["overtaken"] += 1
                self._later(lambda: to(message))
                return
            to(message)
            if self._dice.random() < self._harm.doubled:
                self.did["doubled"] += 1
                self._later(lambda: to(message))

        return harmed

    def _later(self, do: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._dice.random() * self._harm.late_s, do)

    def _again(self, send: Callable[[], asyncio.Future[bool]]) -> None:
        try:
            send()
        except NotPublished:
            self.did["lost"] += 1

    def _send_late(self, send: Callable[[], asyncio.Future[bool]], late: asyncio.Future[bool]) -> None:
        try:
            sent = send()
        except NotPublished as error:
            if not late.done():
                late.set_exception(error)
                late.exception()
            return
        sent.add_done_callback(lambda done: _copy(done, late))


def _copy(done: asyncio.Future[bool], to: asyncio.Future[bool]) -> None:
    if to.done():
        return
    if done.cancelled():
        to.cancel()
    elif (error := done.exception()) is not None:
        to.set_exception(error)
        to.exception()
    else:
        to.set_result(done.result())
