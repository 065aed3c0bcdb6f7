"""Stores whose relays speak to headquarters over the broker: the line itself, without the relay's own program.

One user is one relay with one register behind it. It has a relay's credential, seals what it sends, and hears answers
as a relay does, but it keeps nothing: a request without an answer is a failure, and is not sent again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Final

from paho.mqtt.client import MQTTMessage

from loadtests.users import rows
from loadtests.users.mqtt_link import MqttTrouble, publish_properties
from loadtests.users.mqtt_register import MqttRegister
from loadtests.users.terminals import relays
from protocol.fields import Malformed
from protocol.framing import LENGTH_BYTES
from protocol.messages import AnswerMessage, ErrorMessage, decode, encode
from protocol.relay_keys import NotGenuine, RelayCredential
from protocol.relay_line import RelayLine, Repeated
from protocol.relay_messages import (
    Data,
    Goodbye,
    ReplyItem,
    Report,
    RequestItem,
    UpItem,
    Welcome,
    read_publication,
)
from protocol.requests import BalanceRequest, Card, EarnRequest, Receipt, RedeemRequest, Request, SaleRequest

_SOFTWARE: Final = "tillwire locust"
_ID_BYTES: Final = 16
_PATIENCE_S: Final = 6.0
_PRICES: Final = (250, 12_000)
_POINT: Final = 100
_LATE_MS: Final = (60_000, 1_800_000)
SESSION: Final = "SESSION"
SESSION_AGAIN: Final = "SESSION again"


class StoreRelay(MqttRegister):
    """A relay that begins a session, says how it is as often as it must, and asks one thing after the other."""

    abstract = True

    def on_start(self) -> None:
        """Take a relay, connect, begin a session. Raises MqttTrouble when nobody answers."""
        self.number = relays().take()
        super().on_start()
        self.receipts = 0
        self._advices: set[bytes] = set()
        self._welcomed = threading.Event()
        self._session_row = SESSION
        self._stopped = threading.Event()
        self._begin_session()
        # Under gevent a thread is a greenlet.
        threading.Thread(target=self._beat, daemon=True).start()

    def on_stop(self) -> None:
        """Disconnect; headquarters forgets the session when it hears nothing more."""
        if hasattr(self, "_stopped"):
            self._stopped.set()
        super().on_stop()
        if hasattr(self, "number"):
            relays().give_back(self.number)

    def own_topic(self) -> str:
        """Return the relay's own topic."""
        self._credential = RelayCredential.parse(self.options.population.relays[self.number])
        self._line = RelayLine(self._credential, _SOFTWARE, os.urandom)
        return self._credential.topic

    def send(self, request: Request) -> bool:
        """Publish a request in a publication of its own, which a lone one always has."""
        if not self._line.ready and not self._begin_session():
            return False
        sale_ms = None
        if request.request_id in self._advices:
            sale_ms = self._line.server_time_ms(_now_ms()) - random.randint(*_LATE_MS)  # noqa: S311 (chance)
        terminal = self.options.population.relay_terminal(self.number, 0)
        return self._publish([RequestItem(terminal, encode(request)[LENGTH_BYTES:], sale_ms)])

    def heard(self, message: MQTTMessage) -> None:
        """Take a publication: an answer to HELLO, answers to requests, or the hint that the session is gone."""
        try:
            match read_publication(bytes(message.payload)):
                case Welcome() as welcome:
                    self._line.welcomed(welcome, _now_ms())
                    self._welcomed.set()
                case Data() as data:
                    for item in self._line.open(data, _now_ms())[2]:
                        if isinstance(item, ReplyItem):
                            told = decode(item.message)
                            self.answered(getattr(told, "request_id", b""), item.message)
                case Goodbye(about=about) if about == self._line.session_id:
                    self._line.end()
        except (Malformed, NotGenuine, Repeated) as wrong:
            self.report.failed("publication", type(wrong).__name__)

    def row(self, request: Request) -> str:
        """Return the operation; what the relay had approved while it was alone has a row of its own."""
        return request.op.name + (" advice" if request.request_id in self._advices else "")

    def judged(self, request: Request, answer: bytes) -> tuple[str, str]:
        """Return the operation, with the decline if it is one, and an ERROR as what is wrong."""
        row = self.row(request)
        told = decode(answer)
        if isinstance(told, ErrorMessage):
            return row, rows.error_word(told.code)
        if not isinstance(told, AnswerMessage):
            return row, "OtherPayload"
        return rows.answer_name(row, told.answer.outcome), ""

    def balance(self) -> None:
        """Tell a customer her balance."""
        self.ask(BalanceRequest(_new_id(), 0, self._customer()))

    def sale(self) -> None:
        """Sell, with points spent by every other customer."""
        points = random.choice((0, _POINT))  # noqa: S311 (chance, not a secret)
        self.ask(SaleRequest(_new_id(), 0, self._customer(), self._receipt(), points, True))

    def redeem(self) -> None:
        """Spend points."""
        self.ask(RedeemRequest(_new_id(), 0, self._customer(), _POINT, self._receipt()))

    def late_earn(self) -> None:
        """Send what the store sold while it was alone."""
        request = EarnRequest(_new_id(), 0, self._customer(), self._receipt(), None, 0)
        self._advices.add(request.request_id)
        self.ask(request)
        self._advices.discard(request.request_id)

    def _begin_session(self) -> bool:
        """Say HELLO and wait for WELCOME; return whether it came."""
        self._welcomed.clear()
        began_s = time.perf_counter()
        hello = self._line.hello(int(time.time() * 1_000))
        said = self.link.publish(f"{self.topic}/hello", hello, publish_properties(b"hello", f"{self.topic}/answer"))
        if said and self._welcomed.wait(_PATIENCE_S):
            self.report.good(self._session_row, time.perf_counter() - began_s, 0)
            self._session_row = SESSION_AGAIN
            return True
        self.report.failed(self._session_row, rows.SILENCE if said else rows.CONNECTION_LOST)
        if self._session_row == SESSION:
            raise MqttTrouble("headquarters did not answer HELLO")
        return False

    def _beat(self) -> None:
        """Say something as often as headquarters wants to hear it."""
        while self._line.limits is not None and not self._stopped.wait(self._line.limits.heartbeat_ms / 1_000):
            if self._line.ready:
                self._publish([Report(0, 0, 0, 0)])

    def _publish(self, items: list[UpItem]) -> bool:
        payload = self._line.close(items, _now_ms())
        properties = publish_properties(b"data", f"{self.topic}/answer")
        return self.link.publish(f"{self.topic}/to/{self._line.bridge}", payload, properties)

    def _customer(self) -> Card:
        population = self.options.population
        return population.card(random.randrange(population.accounts))  # noqa: S311 (chance, not a secret)

    def _receipt(self) -> Receipt:
        self.receipts += 1
        amount = random.randint(*_PRICES)  # noqa: S311
        return Receipt(amount, self.options.population.currency, f"{self.number}-{self.receipts}")


def _new_id() -> bytes:
    return os.urandom(_ID_BYTES)


def _now_ms() -> int:
    return int(time.monotonic() * 1_000)
