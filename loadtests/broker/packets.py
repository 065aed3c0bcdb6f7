"""As much of MQTT 5 (OASIS standard, section 3) as an echo needs: QoS 1 both ways, no properties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

CONNACK, PUBLISH, PUBACK, SUBACK = 0x20, 0x30, 0x40, 0x90
_TYPE: Final = 0xF0
_CONNECT, _SUBSCRIBE, _AT_LEAST_ONCE = b"\x10", b"\x82", b"\x32"
_VERSION: Final = 5
_CLEAN, _USER, _PASSWORD = 0x02, 0x80, 0x40
_KEEP_ALIVE_S: Final = 600
_NO_PROPERTIES: Final = b"\0"
_LENGTH_BYTES_MAX: Final = 4
_MORE, _SEVEN_BITS = 0x80, 7


class NotMqtt(ValueError):  # noqa: N818 - it says what is the matter
    """Bytes that are no MQTT."""


class Publication(NamedTuple):
    """What a PUBLISH says; `packet` is None where QoS is 0."""

    topic: bytes
    packet: bytes | None
    payload: bytes


def connect(client_id: str, user: str, password: str) -> bytes:
    """Return a CONNECT that begins a session of its own."""
    flags = _CLEAN | (_USER | _PASSWORD if user else 0)
    parts = [client_id.encode(), *((user.encode(), password.encode()) if user else ())]
    fixed = _text(b"MQTT") + bytes((_VERSION, flags)) + _KEEP_ALIVE_S.to_bytes(2) + _NO_PROPERTIES
    return _packet(_CONNECT, fixed + b"".join(map(_text, parts)))


def subscribe(topic: str) -> bytes:
    """Return a SUBSCRIBE, QoS 1."""
    return _packet(_SUBSCRIBE, b"\0\1" + _NO_PROPERTIES + _text(topic.encode()) + b"\1")


def publish(topic: bytes, packet: int, payload: bytes) -> bytes:
    """Return a PUBLISH, QoS 1; `packet` is 1..65535 and not under way already."""
    return _packet(_AT_LEAST_ONCE, _text(topic) + packet.to_bytes(2) + _NO_PROPERTIES + payload)


def acknowledge(packet: bytes) -> bytes:
    """Return the PUBACK of a PUBLISH."""
    return b"\x40\x02" + packet


def read_publication(head: int, body: bytes) -> Publication:
    """Return what stands in a PUBLISH with this first byte. Raises NotMqtt."""
    at = 2 + int.from_bytes(body[:2])
    topic, packet = body[2:at], None
    if head & 0x06:
        packet, at = body[at : at + 2], at + 2
    length, at = _read_length(body, at)
    return Publication(topic, packet, body[at + length :])


class Splitter:
    """Cuts what comes in any portions into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the first byte and the body of each whole packet. Raises NotMqtt."""
        data = self._rest + data if self._rest else data
        at = 0
        while at < len(data):
            try:
                length, begin = _read_length(data, at + 1)
            except IndexError:
                break
            if begin + length > len(data):
                break
            yield data[at], data[begin : begin + length]
            at = begin + length
        self._rest = data[at:]


def kind_of(head: int) -> int:
    """Return the type of a packet, without its flags."""
    return head & _TYPE


def _packet(head: bytes, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, low = left >> _SEVEN_BITS, left & ~_MORE & 0xFF
        length += bytes((low | (_MORE if left else 0),))
        if not left:
            return head + length + body


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length and where it ends. Raises IndexError when it is not all there."""
    value = 0
    for place in range(_LENGTH_BYTES_MAX):
        byte = data[at + place]
        value |= (byte & ~_MORE) << (_SEVEN_BITS * place)
        if not byte & _MORE:
            return value, at + place + 1
    raise NotMqtt("a length of more than four bytes")


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value
