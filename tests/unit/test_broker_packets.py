"""The echo's own MQTT, byte by byte as the standard has it."""

import pytest

from loadtests.broker import packets
from loadtests.broker.packets import NotMqtt, Publication, Splitter


def test_packets_are_those_of_the_standard() -> None:
    assert packets.connect("a", "", "") == b"\x10\x0e\x00\x04MQTT\x05\x02\x02\x58\x00\x00\x01a"
    assert packets.connect("a", "u", "pw")[9:] == b"\xc2\x02\x58\x00\x00\x01a\x00\x01u\x00\x02pw"
    assert packets.subscribe("t/+") == b"\x82\x09\x00\x01\x00\x00\x03t/+\x01"
    assert packets.publish(b"t", 258, b"hey") == b"\x32\x09\x00\x01t\x01\x02\x00hey"
    assert packets.acknowledge(b"\x01\x02") == b"\x40\x02\x01\x02"


@pytest.mark.parametrize("payload", [b"", b"x" * 120, b"x" * 200, b"x" * 20_000, b"x" * 2_100_000])
def test_what_is_published_is_read_in_any_portions(payload: bytes) -> None:
    stream = packets.publish(b"topic", 7, payload) + packets.acknowledge(b"\x00\x09")
    for portion in (1, 3, 1_000, len(stream)) if len(payload) < 1_000 else (9_999, len(stream)):
        splitter = Splitter()
        found = [one for at in range(0, len(stream), portion) for one in splitter.feed(stream[at : at + portion])]
        (head, body), (acknowledged, packet) = found
        assert packets.read_publication(head, body) == Publication(b"topic", b"\x00\x07", payload)
        assert (packets.kind_of(acknowledged), packet) == (packets.PUBACK, b"\x00\x09")


def test_properties_of_a_publication_are_passed_over() -> None:
    body = b"\x00\x01t\x00\x05" + b"\x03" + b"\x01\x01\x00" + b"payload"
    assert packets.read_publication(0x32, body) == Publication(b"t", b"\x00\x05", b"payload")
    assert packets.read_publication(0x30, b"\x00\x01t\x00payload") == Publication(b"t", None, b"payload")


def test_a_length_without_end_is_no_mqtt() -> None:
    with pytest.raises(NotMqtt):
        list(Splitter().feed(b"\x30\xff\xff\xff\xff\xff"))
