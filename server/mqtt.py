"""A connection to an MQTT broker that is kept up: the only module that knows the MQTT library.

MQTT 5, and 3.1.1 with brokers that have no more. Nothing relies on the broker's memory: each connection is a clean
start, what was not acknowledged when it broke is in doubt, and whoever published it is told so.
"""

import asyncio
import contextlib
import math
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from paho.mqtt.subscribeoptions import SubscribeOptions

SHARED_PREFIX: Final = "$share/"
_PORT: Final = 1_883
_TLS_PORT: Final = 8_883
_NO_SUBSCRIBERS: Final = 0x10
_UNSUPPORTED_VERSION: Final = 0x84
# A broker of MQTT 3.1.1 may also close in silence; so does one that is just being stopped, but not twice in a row.
_SILENT_CLOSES: Final = 2
# What is received may keep the loop so long in one turn, then others have theirs.
_TURN_S: Final = 0.0005

_log = structlog.get_logger(subject="mqtt")


class NotPublished(Exception):  # noqa: N818 - it says what is the matter
    """A publication that the broker did not take, or of which nobody knows whether it did."""


class NotConnected(NotPublished):
    """No connection: raised by `publish`, nothing has left; raised by its future, the acknowledgement never came."""


class Congested(NotPublished):
    """Too many publications wait for their acknowledgement; nothing left."""


class Message(NamedTuple):
    """A received publication. The last two are None with MQTT 3.1.1."""

    topic: str
    payload: bytes
    response_topic: str | None
    correlation: bytes | None


class BrokerLimits(NamedTuple):
    """Bounds of a connection; the broker's own may be narrower."""

    under_way_max: int = 64
    """Publications without acknowledgement."""
    received_max: int = 256
    """Received publications that wait to be handled; the broker keeps what is beyond."""
    packet_bytes_max: int = 524_288
    """Longest packet that the broker may send."""
    connect_timeout_s: float = 5.0
    keepalive_s: int = 10
    """A broker that is silent for up to twice so long counts as lost."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 5.0


class BrokerAddress(NamedTuple):
    """The parts of a broker's URL."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `mqtt(s)://user:password@host:port`. Raises ValueError, which never quotes the password."""
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(
                "the broker's URL must be mqtt://user:password@host:port, or mqtts:// for TLS; a / in the user or the "
                "password is written %2F"
            )
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the port in the broker's URL must be a number up to 65535") from None
        tls = parts.scheme == "mqtts"
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password is not None else None
        return cls(parts.hostname, port or (_TLS_PORT if tls else _PORT), user, password, tls)


class Broker:
    """One connection to a broker. Run `run` as a task; the rest may be called from the same loop at any time."""

    def __init__(
        self,
        url: str,
        identifier: str,
        *,
        subscriptions: Sequence[str],
        on_message: Callable[[Message], None],
        random: Random,
        qos: int = 1,
        unshared: Sequence[str] | None = None,
        on_change: Callable[[bool], None] | None = None,
        limits: BrokerLimits | None = None,
        tls_ca_file: Path | None = None,
        name: str = "broker",
    ) -> None:
        """Take where to connect and what to listen to; `unshared` is subscribed instead where nothing can be shared.

        `on_message` is called once a publication, few a turn of the loop; `on_change` after each change of
        `connected`. `name` is for the log. Raises ValueError for a URL or an authority's certificate that cannot be
        used.
        """
        self._address = BrokerAddress.parse(url)
        self._tls = _tls_context(tls_ca_file) if self._address.tls else None
        self._identifier = identifier
        self._subscriptions = tuple(subscriptions)
        self._unshared = self._subscriptions if unshared is None else tuple(unshared)
        self._on_message = on_message
        self._on_change = on_change
        self._random = random
        self._qos = qos
        self._name = name
        self._limits = limits or BrokerLimits()
        self._line: _Line | None = None
        self._silent_closes = 0
        self._version = aiomqtt.ProtocolVersion.V5
        self.reason = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether the broker is there and has taken the subscriptions."""
        return self._line is not None

    @property
    def has_room(self) -> bool:
        """Whether `publish` would take a publication now."""
        return self._line is not None and self._line.has_room

    @property
    def under_way(self) -> int:
        """How many publications wait for their acknowledgement."""
        return 0 if self._line is None else self._line.under_way

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """Listen to these of the subscriptions no more; a broker that does not answer is not insisted upon."""
        self._subscriptions = tuple(topic for topic in self._subscriptions if topic not in topics)
        self._unshared = tuple(topic for topic in self._unshared if topic not in topics)
        if self._line is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._line.unsubscribe(list(topics), timeout=self._limits.connect_timeout_s)

    def health(self) -> dict[str, object]:
        """Return how the connection is, for people: no user, no password."""
        broker = f"{self._address.host}:{self._address.port}"
        if self._line is None:
            return {"broker": broker, "connected": False, "reason": self.reason}
        return {"broker": broker, "connected": True, "mqtt": _name(self._version), "under_way": self._line.under_way}

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
        """Publish in this turn of the loop. Raises NotConnected or Congested at once: nothing has left.

        The future resolves when the broker has acknowledged it (QoS 1) or it is written (QoS 0): False if the broker
        says that nobody listens to the topic. It fails with NotPublished; nobody needs to look.
        """
        if self._line is None:
            raise NotConnected(self.reason)
        properties = None
        if self._version is aiomqtt.ProtocolVersion.V5:
            properties = _PublishProperties(response_topic, correlation, expiry_s)
        return self._line.send(topic, payload, qos, properties)

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        limits = self._limits
        loop = asyncio.get_running_loop()
        pause_s = limits.backoff_first_s
        while True:
            since = loop.time()
            try:
                await self._live()
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                if self.reason != (reason := str(error) or repr(error)):
                    self.reason = reason
                    _log.warning("the broker is away", broker=self._address.host, connection=self._name, reason=reason)
            if loop.time() - since > limits.backoff_max_s:
                pause_s = limits.backoff_first_s
            await asyncio.sleep(pause_s * self._random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, limits.backoff_max_s)

    async def _live(self) -> None:
        """Connect, subscribe, and return or raise when the connection has ended."""
        line = _Line(self._address, self._identifier, self._version, self._tls, self._limits, self._on_message)
        try:
            await self._open(line)
            await self._subscribe(line)
            self._line, self.reason = line, ""
            _log.info(
                "connected to the broker",
                broker=self._address.host, connection=self._name, mqtt=_name(self._version),
            )  # fmt: skip
            self._changed()
            await line.lost()
            self.reason = "the broker ended the connection"
        finally:
            if self._line is not None:
                self._line = None
                line.fail(self.reason or "the connection to the broker broke")
                self._changed()
            await line.close()
            if line.entered:
                # Perhaps it is another broker by now.
                self._version = aiomqtt.ProtocolVersion.V5

    async def _open(self, line: "_Line") -> None:
        try:
            await line.open()
        except aiomqtt.MqttError as error:
            self._silent_closes += line.closed_in_silence
            code = getattr(getattr(error, "rc", None), "value", None)
            if self._version is not aiomqtt.ProtocolVersion.V5:
                self._version, self._silent_closes = aiomqtt.ProtocolVersion.V5, 0
            elif code == _UNSUPPORTED_VERSION or self._silent_closes >= _SILENT_CLOSES:
                self._version = aiomqtt.ProtocolVersion.V311
            raise
        self._silent_closes = 0

    async def _subscribe(self, line: "_Line") -> None:
        topics = self._subscriptions if line.shares else self._unshared
        if topics:
            await line.listen(topics, self._qos)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.connected)


class _PublishProperties:
    """Properties of PUBLISH (MQTT 5, 3.3.2.3), packed here: the library's own take longer than all else it does."""

    __slots__ = ("_packed",)

    def __init__(self, response_topic: str | None, correlation: bytes | None, expiry_s: float | None) -> None:
        packed = b""
        if expiry_s is not None:
            packed += b"\x02" + max(1, math.ceil(expiry_s)).to_bytes(4)
        if response_topic is not None:
            packed += b"\x08" + _sized(response_topic.encode())
        if correlation is not None:
            packed += b"\x09" + _sized(correlation)
        self._packed = bytes(VariableByteIntegers.encode(len(packed))) + packed

    def pack(self) -> bytes:
        return self._packed


def _sized(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


class _Line(aiomqtt.Client):
    """One connection, from its beginning to its end.

    Beside the library's own ways, publications neither need a task each nor wait for another turn of the loop, and
    what is received is acknowledged only when it is handled: so the broker keeps what is too much.
    """

    def __init__(
        self,
        address: BrokerAddress,
        identifier: str,
        version: aiomqtt.ProtocolVersion,
        tls: ssl.SSLContext | None,
        limits: BrokerLimits,
        on_message: Callable[[Message], None],
    ) -> None:
        at_five = version is aiomqtt.ProtocolVersion.V5
        super().__init__(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            identifier=identifier,
            protocol=version,
            clean_session=None if at_five else True,
            clean_start=True if at_five else MQTT_CLEAN_START_FIRST_ONLY,
            timeout=limits.connect_timeout_s,
            keepalive=limits.keepalive_s,
            max_inflight_messages=0,
            properties=_connect_properties(limits) if at_five else None,
            tls_context=tls,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._client.manual_ack_set(True)
        self._at_five = at_five
        self._limits = limits
        self._handler = on_message
        self._room = limits.under_way_max
        self._received: deque[Any] = deque()
        self._under_way: dict[int, asyncio.Future[bool]] = {}
        self._abandoned = False
        self.shares = at_five
        self.entered = False
        self.closed_in_silence = False

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    @property
    def has_room(self) -> bool:
        return len(self._under_way) < self._room

    async def open(self) -> None:
        await self.__aenter__()
        self.entered = True

    async def close(self) -> None:
        """End it properly if it was open, and let go of everything."""
        if self.entered:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                await self.__aexit__(None, None, None)
        self._abandon()

    async def lost(self) -> None:
        """Wait until the connection has ended; raise the reason, if there is one."""
        await asyncio.shield(self._disconnected)

    async def listen(self, topics: Sequence[str], qos: int) -> None:
        options = [
            (topic, SubscribeOptions(qos, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND) if self._at_five else qos)
            for topic in topics
        ]
        codes = await self.subscribe(options)  # type: ignore[arg-type]
        for topic, code in zip(topics, codes, strict=False):
            if getattr(code, "is_failure", False):
                raise aiomqtt.MqttError(f"the broker refused the subscription of {without_group(topic)}: {code}")

    def send(self, topic: str, payload: bytes, qos: int, properties: _PublishProperties | None) -> asyncio.Future[bool]:
        if not self.has_room:
            raise Congested(f"{len(self._under_way)} publications wait for their acknowledgement")
        info = self._client.publish(topic, payload, qos, False, properties)  # type: ignore[arg-type]
        if info.rc != MQTT_ERR_SUCCESS:
            raise NotConnected(f"the broker cannot be written to: {info.rc!s}")
        future: asyncio.Future[bool] = self._loop.create_future()
        self._under_way[info.mid] = future
        return future

    def fail(self, reason: str) -> None:
        """Tell whoever waits that nobody knows what became of it."""
        under_way, self._under_way = self._under_way, {}
        for future in under_way.values():
            if not future.done():
                future.set_exception(NotConnected(reason))
                # Whoever does not look at it does not care; that is no mistake to be logged.
                future.exception()

    # What the library calls.

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if self._at_five and properties is not None:
            self._room = min(self._room, getattr(properties, "ReceiveMaximum", self._room))
            self.shares = bool(getattr(properties, "SharedSubscriptionAvailable", 1))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():
            # The library would wait for its time-out.
            self.closed_in_silence = True
            self._connected.set_exception(aiomqtt.MqttError("the broker closed the connection before it answered"))
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        del client, userdata, properties
        future = self._under_way.pop(mid, None)
        if future is None or future.done():
            return
        if reason_code.is_failure:
            future.set_exception(NotPublished(f"the broker refused it: {reason_code}"))
            future.exception()
        else:
            future.set_result(reason_code.value != _NO_SUBSCRIBERS)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        del client, userdata
        if len(self._received) >= self._limits.received_max:
            # The broker keeps to what CONNECT said; this is QoS 0, or a broker of MQTT 3.1.1: senders ask again.
            self._client.ack(message.mid, message.qos)
            return
        if not self._received:
            self._loop.call_soon(self._handle)
        self._received.append(message)

    def _handle(self) -> None:
        """Hand over what was received, for as long as one turn of the loop may take."""
        until = self._loop.time() + _TURN_S
        while self._received:
            message = self._received[0]
            try:
                self._handler(_message(message))
            except Exception:  # noqa: BLE001 - a publication that breaks something must not come again and again
                _log.exception("a publication could not be handled")
            self._received.popleft()
            self._client.ack(message.mid, message.qos)
            if self._received and self._loop.time() >= until:
                self._loop.call_soon(self._handle)
                return

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        # Called from the thread that connected, perhaps after nobody waited for it any more.
        if self._abandoned:
            raise OSError("nobody waits for this connection")
        super()._on_socket_open(client, userdata, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        # The library would ask the loop first whether the socket can be written.
        self._loop.call_soon_threadsafe(self._write)

    def _on_socket_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            super()._on_socket_unregister_write(client, userdata, sock)

    def _write(self) -> None:
        client = self._client
        try:
            client.loop_write()
        except Exception as error:  # noqa: BLE001 - as the library does: whatever it is, the connection is over
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
            return
        sock = client.socket()
        if sock is not None and client.want_write():
            self._loop.add_writer(sock.fileno(), self._write)

    def _abandon(self) -> None:
        self._abandoned = True
        self.fail("the connection to the broker was ended")
        if self._misc_task is not None:
            self._misc_task.cancel()
        sock = self._client.socket()
        if sock is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()


def without_group(topic: str) -> str:
    """Return a subscription as people may see it: the name of a group that shares it may be a secret."""
    return topic.split("/", 2)[-1] if topic.startswith(SHARED_PREFIX) else topic


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"the broker's authorities in {ca_file} cannot be used: {error}") from error


def _name(version: aiomqtt.ProtocolVersion) -> str:
    return "5" if version is aiomqtt.ProtocolVersion.V5 else "3.1.1"


def _connect_properties(limits: BrokerLimits) -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = limits.received_max
    properties.MaximumPacketSize = limits.packet_bytes_max
    return properties


def _message(message: Any) -> Message:
    properties = message.properties
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""
    return Message(
        topic,
        message.payload,
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
    )
