"""One connection to a broker, as bare as a connection can be."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from loadtests.broker import packets

_PORT = 1883
_PATIENCE_S = 10.0
_READ_BYTES = 65_536
_PACKETS_MAX = 65_535


class BrokerTrouble(Exception):  # noqa: N818 - it is the broker's, and ends the run
    """The broker could not be reached, refused something, or ended a connection."""


class BrokerClient:
    """Connected to the broker of a URL `mqtt://user:password@host:port` when it is made. Raises BrokerTrouble."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        where = (address.hostname or "", address.port or _PORT)
        try:
            self.socket = socket.create_connection(where, timeout=_PATIENCE_S)
        except OSError as error:
            raise BrokerTrouble(f"no broker at {where[0]}:{where[1]}: {error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._splitter = packets.Splitter()
        self._packet = 0
        # What came behind an answer that was waited for, in the same read.
        self._pending: deque[tuple[int, bytes]] = deque()
        user, password = unquote(address.username or ""), unquote(address.password or "")
        name = f"tillwire-load-{os.urandom(6).hex()}"
        try:
            self._ask(packets.connect(name, user, password), packets.CONNACK, "the connection", code_at=1)
        except BrokerTrouble:
            self.close()
            raise

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1 and return when that is confirmed. Raises BrokerTrouble."""
        self._ask(packets.subscribe(topic), packets.SUBACK, f"a subscription to {topic}", code_at=-1)

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Send with QoS 1; nobody waits for the PUBACK."""
        self._packet = self._packet % _PACKETS_MAX + 1
        self.socket.sendall(packets.publish(topic, self._packet, payload))

    def heard(self) -> Iterator[packets.Publication]:
        """Yield the publications of one read, each acknowledged. Raises BrokerTrouble, and TimeoutError."""
        if not self._pending:
            self._read()
        while self._pending:
            head, body = self._pending.popleft()
            if packets.kind_of(head) == packets.PUBLISH:
                publication = packets.read_publication(head, body)
                if publication.packet is not None:
                    self.socket.sendall(packets.acknowledge(publication.packet))
                yield publication

    def first_heard(self, wait_s: float) -> packets.Publication | None:
        """Return the first publication of the next `wait_s` seconds, None when there is none."""
        until_s = time.monotonic() + wait_s
        try:
            while (left_s := until_s - time.monotonic()) > 0:
                self.socket.settimeout(left_s)
                for publication in self.heard():
                    return publication
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(_PATIENCE_S)
        return None

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def _read(self) -> None:
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise BrokerTrouble("the broker closed a connection")
        self._pending.extend(self._splitter.feed(data))

    def _ask(self, packet: bytes, answer: int, what: str, code_at: int) -> None:
        self.socket.sendall(packet)
        try:
            while True:
                self._read()
                while self._pending:
                    head, body = self._pending.popleft()
                    if packets.kind_of(head) == answer:
                        if body[code_at] >= 0x80:  # noqa: PLR2004 - from here on reasons are failures
                            raise BrokerTrouble(f"the broker refused {what}")
                        return
        except TimeoutError:
            raise BrokerTrouble(f"the broker did not answer {what}") from None
