"""One MQTT 5 connection under gevent: connect, subscribe, publish, and messages handed to a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_PORT: Final = 1883
_KEEP_ALIVE_S: Final = 30
_PATIENCE_S: Final = 10.0
AT_LEAST_ONCE: Final = 1


class MqttTrouble(Exception):  # noqa: N818 (says what is the matter)
    """The broker could not be reached, or refused something."""


class MqttLink:
    """A connection to the broker of a URL `mqtt://user:password@host:port`. paho's thread is a greenlet here."""

    def __init__(self, url: str, client_id: str, on_message: Callable[[MQTTMessage], None]) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or _PORT)
        self._on_message = on_message
        self._connected, self._subscribed = threading.Event(), threading.Event()
        self._refused = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5)
        if address.username:
            self._client.username_pw_set(unquote(address.username), unquote(address.password or ""))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda _client, _told, message: self._on_message(message)

    def connect(self) -> None:
        """Connect. Raises MqttTrouble."""
        try:
            self._client.connect(*self._address, keepalive=_KEEP_ALIVE_S)
        except OSError as error:
            raise MqttTrouble(f"no broker at {self._address[0]}:{self._address[1]}: {error}") from None
        self._client.loop_start()
        self._wait(self._connected, "CONNECT")

    def subscribe(self, topic: str) -> None:
        """Subscribe and return when the broker has confirmed it. Raises MqttTrouble."""
        self._subscribed.clear()
        self._client.subscribe(topic, qos=AT_LEAST_ONCE)
        self._wait(self._subscribed, f"SUBSCRIBE {topic}")

    def publish(self, topic: str, payload: bytes, properties: Properties) -> bool:
        """Hand a message to the connection; return whether there is one."""
        told = self._client.publish(topic, payload, qos=AT_LEAST_ONCE, properties=properties)
        return told.rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _client: Client, _told: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._refused = reason.is_failure
        self._connected.set()

    def _on_subscribe(self, _client: Client, _told: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        self._refused = any(reason.is_failure for reason in reasons)
        self._subscribed.set()

    def _wait(self, event: threading.Event, what: str) -> None:
        answered = event.wait(_PATIENCE_S)
        if not answered or self._refused:
            self.close()
            raise MqttTrouble(f"the broker {'refused' if answered else 'did not answer'} {what}")


def publish_properties(correlation: bytes, response_topic: str = "") -> Properties:
    """Return the properties of a request, or without a response topic those of an answer."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = correlation
    if response_topic:
        properties.ResponseTopic = response_topic
    return properties
