"""Users behind MQTT: what they have in common, and the one that measures the broker alone.

`BrokerEcho` sends real request frames, which a subscriber of the same process sends back as they are. Its row is
`broker echo`: two passages through the broker and nothing of Tillwire, the floor under every relay. `StoreRelay`
(store_relay.py) speaks the line between a store's relay and headquarters.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from locust import User
from paho.mqtt.client import MQTTMessage

from loadtests.users import rows
from loadtests.users.mqtt_link import MqttLink, MqttTrouble, publish_properties
from loadtests.users.options import Options
from loadtests.users.rows import Rows
from loadtests.users.terminals import terminals
from protocol.messages import encode
from protocol.requests import BalanceRequest, Request

_ANSWER_PATIENCE_S: Final = 6.0
_ID_BYTES: Final = 16


class _Awaited:
    """A place for one answer and the moment in which it came."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.at_s = 0.0
        self.payload = b""


class MqttRegister(User):
    """Publishes requests and hears answers under one topic. Which, and what stands in them, is its subclass's."""

    abstract = True

    def on_start(self) -> None:
        """Connect and subscribe to what comes for it."""
        self.options = Options.of(self.environment)
        self.report = Rows(self.environment.events.request.fire, rows.MQTT)
        self.topic = self.own_topic()
        self._awaited: dict[bytes, _Awaited] = {}
        self.link = MqttLink(self.options.mqtt_url, f"locust-{os.urandom(6).hex()}", self.heard)
        began_s = time.perf_counter()
        try:
            self.link.connect()
            self.link.subscribe(f"{self.topic}/answer")
        except MqttTrouble:
            self.report.failed("CONNECT", rows.NOT_REACHED)
            raise
        self.report.good("CONNECT", time.perf_counter() - began_s, 0)

    def on_stop(self) -> None:
        """Disconnect."""
        if hasattr(self, "link"):
            self.link.close()

    def own_topic(self) -> str:
        """Return the topic under which everything of this user lies; called once, before it connects."""
        raise NotImplementedError

    def send(self, request: Request) -> bool:
        """Publish a request; return whether there is a connection to do so."""
        raise NotImplementedError

    def heard(self, message: MQTTMessage) -> None:
        """Take what the broker brings, and call `answered` for each answer in it."""
        raise NotImplementedError

    def judged(self, request: Request, answer: bytes) -> tuple[str, str]:
        """Return the row under which a request stands, and what is wrong with its answer, in a word or ''."""
        raise NotImplementedError

    def row(self, request: Request) -> str:
        """Return the row of a request that was not answered."""
        raise NotImplementedError

    def ask(self, request: Request) -> None:
        """Publish a request and wait for its answer. It is not sent again: what is measured is one passage."""
        awaited = self._awaited[request.request_id] = _Awaited()
        began_s = time.perf_counter()
        row = self.row(request)
        if not self.send(request):
            word = rows.CONNECTION_LOST
        elif not awaited.came.wait(_ANSWER_PATIENCE_S):
            word = rows.SILENCE
        else:
            row, word = self.judged(request, awaited.payload)
        del self._awaited[request.request_id]
        if word:
            self.report.failed(row, word)
        else:
            self.report.good(row, awaited.at_s - began_s, len(awaited.payload))

    def answered(self, request_id: bytes, payload: bytes) -> None:
        """Note an answer; one that nobody waits for is left alone."""
        awaited = self._awaited.get(request_id)
        if awaited is not None:
            awaited.at_s, awaited.payload = time.perf_counter(), payload
            awaited.came.set()


class Echo:
    """Sends each request back to its response topic, as it came, with its correlation data."""

    def __init__(self, url: str) -> None:
        # Its own part of the topics, so that the echoes of two processes do not both answer.
        self.network = f"echo-{os.urandom(4).hex()}"
        self._link = MqttLink(url, self.network, self._send_back)
        self._link.connect()
        self._link.subscribe(f"tillwire/1/{self.network}/+/+/request")

    def close(self) -> None:
        """Disconnect."""
        self._link.close()

    def _send_back(self, message: MQTTMessage) -> None:
        properties = message.properties
        answer = publish_properties(getattr(properties, "CorrelationData", b""))
        self._link.publish(getattr(properties, "ResponseTopic", ""), bytes(message.payload), answer)


class _Process:
    """The echo of this process: there as long as somebody uses it."""

    lock = threading.Lock()
    echo: Echo | None = None
    users = 0


class BrokerEcho(MqttRegister):
    """Measures the broker's own round trip: publish, echo, publish, heard."""

    abstract = True

    def on_start(self) -> None:
        """Take a terminal and connect; the first one starts the echo. Raises MqttTrouble."""
        with _Process.lock:
            if _Process.echo is None:
                _Process.echo = Echo(Options.of(self.environment).mqtt_url)
            _Process.users += 1
            self.echo = _Process.echo
        self.number = terminals().take()
        super().on_start()

    def on_stop(self) -> None:
        """Disconnect; the last one stops the echo."""
        super().on_stop()
        if hasattr(self, "number"):
            terminals().give_back(self.number)
        if hasattr(self, "echo"):
            with _Process.lock:
                _Process.users -= 1
                if not _Process.users and _Process.echo is not None:
                    _Process.echo.close()
                    _Process.echo = None

    def own_topic(self) -> str:
        """Return a topic of the network that this process's echo answers for."""
        return f"tillwire/1/{self.echo.network}/load/{self.options.population.terminal(self.number)}"

    def send(self, request: Request) -> bool:
        """Publish the request's frame."""
        properties = publish_properties(request.request_id, f"{self.topic}/answer")
        return self.link.publish(f"{self.topic}/request", encode(request), properties)

    def heard(self, message: MQTTMessage) -> None:
        """Take what came back."""
        self.answered(getattr(message.properties, "CorrelationData", b""), bytes(message.payload))

    def row(self, request: Request) -> str:
        """Return the one row there is: the broker does not know what it carries."""
        del request
        return "broker echo"

    def judged(self, request: Request, answer: bytes) -> tuple[str, str]:
        """Return whether something else came back than was sent."""
        return self.row(request), "" if answer == encode(request) else "OtherPayload"

    def balance(self) -> None:
        """Ask for a balance."""
        card = self.options.population.card(self.number % self.options.population.accounts)
        self.ask(BalanceRequest(os.urandom(_ID_BYTES), 0, card))
