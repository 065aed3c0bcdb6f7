"""Registers behind MQTT: request frames out on one topic, answers back on another, matched by correlation data.

Tillwire has no MQTT bridge yet. What can be measured today is the broker alone: `BrokerEcho` sends real request frames,
which a subscriber of the same process sends back as they are. Its row is `broker echo`: two passages through the broker
and nothing of Tillwire, the floor under every relay. A user that measures the bridge will be another subclass of
`MqttRegister`, without the echo, with the operation's name as its row and an answer frame that it accepts.
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
    """Publishes requests under `tillwire/1/{network}/{store}/{terminal}/request`, hears answers on `…/answer`."""

    abstract = True

    def on_start(self) -> None:
        """Take a terminal, connect and subscribe to its answers."""
        self.options = Options.of(self.environment)
        self.report = Rows(self.environment.events.request.fire, rows.MQTT)
        self.number = terminals().take()
        self.topic = f"tillwire/1/{self.network()}/load/{self.options.population.terminal(self.number)}"
        self._awaited: dict[bytes, _Awaited] = {}
        self.link = MqttLink(self.options.mqtt_url, f"locust-{os.urandom(6).hex()}", self._heard)
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
        if hasattr(self, "number"):
            terminals().give_back(self.number)

    def network(self) -> str:
        """Return the topic's part that names the network."""
        raise NotImplementedError

    def row(self, request: Request) -> str:
        """Return the name under which a request stands in the statistics."""
        raise NotImplementedError

    def fault(self, frame: bytes, answer: bytes) -> str:
        """Return what is wrong with an answer to a request frame, in a word; nothing for a good one."""
        raise NotImplementedError

    def ask(self, request: Request) -> None:
        """Publish a request and wait for its answer. It is not sent again: what is measured is one passage."""
        frame, awaited = encode(request), _Awaited()
        self._awaited[request.request_id] = awaited
        began_s = time.perf_counter()
        properties = publish_properties(request.request_id, f"{self.topic}/answer")
        if not self.link.publish(f"{self.topic}/request", frame, properties):
            word = rows.CONNECTION_LOST
        elif not awaited.came.wait(_ANSWER_PATIENCE_S):
            word = rows.SILENCE
        else:
            word = self.fault(frame, awaited.payload)
        del self._awaited[request.request_id]
        if word:
            self.report.failed(self.row(request), word)
        else:
            self.report.good(self.row(request), awaited.at_s - began_s, len(awaited.payload))

    def balance(self) -> None:
        """Ask for a balance."""
        card = self.options.population.card(self.number % self.options.population.accounts)
        self.ask(BalanceRequest(os.urandom(_ID_BYTES), 0, card))

    def _heard(self, message: MQTTMessage) -> None:
        properties = message.properties
        awaited = self._awaited.get(getattr(properties, "CorrelationData", b""))
        if awaited is not None:
            awaited.at_s, awaited.payload = time.perf_counter(), bytes(message.payload)
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
        """Connect; the first one starts the echo. Raises MqttTrouble."""
        with _Process.lock:
            if _Process.echo is None:
                _Process.echo = Echo(Options.of(self.environment).mqtt_url)
            _Process.users += 1
            self.echo = _Process.echo
        super().on_start()

    def on_stop(self) -> None:
        """Disconnect; the last one stops the echo."""
        super().on_stop()
        if hasattr(self, "echo"):
            with _Process.lock:
                _Process.users -= 1
                if not _Process.users and _Process.echo is not None:
                    _Process.echo.close()
                    _Process.echo = None

    def network(self) -> str:
        """Return the network that this process's echo answers for."""
        return self.echo.network

    def row(self, request: Request) -> str:
        """Return the one row there is: the broker does not know what it carries."""
        del request
        return "broker echo"

    def fault(self, frame: bytes, answer: bytes) -> str:
        """Return whether something else came back than was sent."""
        return "" if answer == frame else "OtherPayload"
