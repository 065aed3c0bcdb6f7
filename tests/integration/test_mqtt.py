"""The connection to a broker, on real ones: what holds when the broker goes, comes back, refuses, or is slow."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtests.certificate import make_certificate
from server.engines import binaries
from server.engines.broker import EmbeddedBroker
from server.engines.child import Child
from server.engines.ports import free_port
from server.mqtt import (
    Broker,
    BrokerAddress,
    BrokerLimits,
    Congested,
    Message,
    NotConnected,
    NotPublished,
    without_group,
)
from tests.rigs.old_broker import OldBroker

EAGER = BrokerLimits(backoff_first_s=0.02, backoff_max_s=0.1, connect_timeout_s=1.0, keepalive_s=1)


class Listener:
    """A connection whose publications a test looks at."""

    def __init__(self, url: str, name: str, topics: list[str], limits: BrokerLimits = EAGER, **options: Any) -> None:
        self.received: list[Message] = []
        self.changes: list[bool] = []
        self.arrived = asyncio.Event()
        self.broker = Broker(
            url,
            name,
            subscriptions=topics,
            on_message=options.pop("on_message", self._take),
            on_change=self.changes.append,
            random=Random(1),  # noqa: S311 - spreads reconnects
            limits=limits,
            **options,
        )

    def _take(self, message: Message) -> None:
        self.received.append(message)
        self.arrived.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_received(self, count: int) -> None:
        await self.until(lambda: len(self.received) >= count)


@asynccontextmanager
async def connected(*args: Any, connect: bool = True, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(*args, **options)
    task = asyncio.create_task(listener.broker.run(), name="broker")
    try:
        if connect:
            await listener.until(lambda: listener.broker.connected)
        yield listener
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert not listener.broker.connected


@pytest.fixture(params=["mosquitto", "iotcore"])
def broker(request: pytest.FixtureRequest, own_folder: Path) -> Iterator[EmbeddedBroker]:
    yield from running(own_folder, request.param)


@pytest.fixture
def mosquitto(own_folder: Path) -> Iterator[EmbeddedBroker]:
    yield from running(own_folder, "mosquitto")


def running(folder: Path, kind: Any) -> Iterator[EmbeddedBroker]:
    if kind == "mosquitto" and binaries.find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed on this system")
    engine = EmbeddedBroker(folder / "mqtt", kind=kind)
    engine.start()
    yield engine
    engine.stop()


async def test_a_publication_arrives_with_its_response_topic_and_correlation_data(broker: EmbeddedBroker) -> None:
    async with connected(broker.url, "b", ["t/+/x"]) as listener:
        published = listener.broker.publish(
            "t/1/x", b"\0\xff", response_topic="t/1/answer", correlation=b"c\0", expiry_s=5
        )
        assert await asyncio.wait_for(published, 10) is True
        await listener.until_received(1)
        assert listener.received == [Message("t/1/x", b"\0\xff", "t/1/answer", b"c\0")]
        await asyncio.wait_for(listener.broker.publish("t/2/x", b"plain", qos=0), 10)
        await listener.until_received(2)
        assert listener.received[1] == Message("t/2/x", b"plain", None, None)


async def test_a_killed_broker_is_connected_to_again_and_the_subscriptions_hold(broker: EmbeddedBroker) -> None:
    async with connected(broker.url, "b", ["t"]) as listener:
        broker.kill()
        await listener.until(lambda: not listener.broker.connected)
        with pytest.raises(NotConnected):
            listener.broker.publish("t", b"nobody")
        assert listener.broker.health()["connected"] is False
        assert listener.broker.health()["reason"]
        broker.start()
        await listener.until(lambda: listener.broker.connected)
        await asyncio.wait_for(listener.broker.publish("t", b"again"), 10)
        await listener.until_received(1)
        assert [message.payload for message in listener.received] == [b"again"]
        assert listener.changes == [True, False, True]


async def test_publications_under_way_fail_when_the_connection_breaks(mosquitto: EmbeddedBroker) -> None:
    async with connected(mosquitto.url, "b", ["t"]) as listener:
        mosquitto.pause()
        published = [listener.broker.publish("t", b"x") for _ in range(3)]
        mosquitto.kill()
        for each in published:
            with pytest.raises(NotPublished):
                await asyncio.wait_for(each, 10)


async def test_unacknowledged_publications_are_bounded_and_room_comes_back(mosquitto: EmbeddedBroker) -> None:
    limits = EAGER._replace(under_way_max=4, keepalive_s=60)
    async with connected(mosquitto.url, "b", ["t"], limits) as listener:
        mosquitto.pause()
        published = [listener.broker.publish("t", b"x") for _ in range(4)]
        assert not listener.broker.has_room
        with pytest.raises(Congested):
            listener.broker.publish("t", b"x")
        mosquitto.resume()
        await asyncio.wait_for(asyncio.gather(*published), 10)
        await asyncio.wait_for(listener.broker.publish("t", b"x"), 10)
        await listener.until_received(5)


async def test_a_broker_that_is_silent_counts_as_lost(mosquitto: EmbeddedBroker) -> None:
    async with connected(mosquitto.url, "b", ["t"]) as listener:
        mosquitto.pause()
        await listener.until(lambda: not listener.broker.connected)
        mosquitto.resume()
        await listener.until(lambda: listener.broker.connected)


async def test_what_nobody_subscribed_is_told(mosquitto: EmbeddedBroker) -> None:
    async with connected(mosquitto.url, "b", ["t"]) as listener:
        assert await asyncio.wait_for(listener.broker.publish("elsewhere", b"x"), 10) is False


async def test_a_wrong_password_neither_connects_nor_hangs(broker: EmbeddedBroker) -> None:
    url = f"mqtt://tillwire:guess@127.0.0.1:{broker.port}"
    async with connected(url, "b", ["t"], connect=False) as listener:
        await listener.until(lambda: listener.broker.reason != "not connected yet")
        assert not listener.broker.connected
        assert "guess" not in str(listener.broker.health())


async def test_a_broker_that_is_not_there_is_named_and_no_hindrance_to_stop() -> None:
    async with connected("mqtt://127.0.0.1:9", "b", ["t"], connect=False) as listener:
        await listener.until(lambda: "refused" in listener.broker.reason)


async def test_with_a_broker_of_mqtt_3_plain_topics_are_subscribed(mosquitto: EmbeddedBroker) -> None:
    for refusal in ("refuse", "close"):
        async with OldBroker(mosquitto.port, refusal) as old:
            url = mosquitto.url.replace(f":{mosquitto.port}", f":{old.port}")
            async with connected(url, "b", ["$share/g/t", "u"], unshared=["t", "u"]) as listener:
                assert listener.broker.health()["mqtt"] == "3.1.1"
                published = listener.broker.publish("t", b"x", response_topic="a", correlation=b"c", expiry_s=1)
                await asyncio.wait_for(published, 10)
                await listener.until_received(1)
                assert listener.received == [Message("t", b"x", None, None)]


async def test_shared_subscriptions_share(broker: EmbeddedBroker) -> None:
    topics = ["$share/bridges/t/+"]
    async with connected(broker.url, "b1", topics) as one, connected(broker.url, "b2", topics) as two:
        for number in range(40):
            await asyncio.wait_for(one.broker.publish("t/1", b"%d" % number), 10)
        await one.until(lambda: len(one.received) + len(two.received) == 40)
        assert one.received
        assert two.received
        assert {m.payload for m in one.received + two.received} == {b"%d" % n for n in range(40)}


async def test_a_flood_is_handled_in_parts_and_loses_nothing_of_qos_1(mosquitto: EmbeddedBroker) -> None:
    slow: list[bytes] = []
    turns = 0

    def take(message: Message) -> None:
        time.sleep(0.001)
        slow.append(message.payload)

    limits = EAGER._replace(received_max=10, keepalive_s=60)
    async with connected(mosquitto.url, "b", ["t"], limits, on_message=take) as listener:
        async with connected(mosquitto.url, "p", [], EAGER._replace(under_way_max=1000)) as publisher:
            await asyncio.gather(*[publisher.broker.publish("t", b"%d" % n) for n in range(300)])
        while len(slow) < 300:
            await asyncio.sleep(0)
            turns += 1
        assert slow == [b"%d" % n for n in range(300)]
        assert turns > 50
        assert listener.broker.connected


async def test_a_publication_that_breaks_its_handler_comes_only_once(mosquitto: EmbeddedBroker) -> None:
    taken: list[bytes] = []

    def take(message: Message) -> None:
        taken.append(message.payload)
        if message.payload == b"bad":
            raise RuntimeError("a bug")

    async with connected(mosquitto.url, "b", ["t"], on_message=take) as listener:
        await asyncio.gather(*[listener.broker.publish("t", payload) for payload in (b"bad", b"good")])
        await listener.until(lambda: len(taken) == 2)
        await asyncio.wait_for(listener.broker.publish("t", b"after"), 10)
        await listener.until(lambda: taken == [b"bad", b"good", b"after"])


async def test_what_was_retained_is_not_received(mosquitto: EmbeddedBroker) -> None:
    async with connected(mosquitto.url, "p", []) as publisher:
        line = publisher.broker._line
        assert line is not None
        line._client.publish("t", b"old", qos=1, retain=True)
        await asyncio.wait_for(publisher.broker.publish("u", b""), 10)
        async with connected(mosquitto.url, "b", ["t"]) as listener:
            await asyncio.wait_for(publisher.broker.publish("t", b"new"), 10)
            await listener.until_received(1)
            assert [message.payload for message in listener.received] == [b"new"]


@pytest.fixture
def tls_broker(own_folder: Path) -> Iterator[tuple[int, Path]]:
    """Mosquitto that speaks TLS only: its port and its certificate."""
    program = binaries.find_mosquitto()
    if program is None:
        pytest.skip("Mosquitto is not installed on this system")
    certificate, key, configuration = (own_folder / name for name in ("cert.pem", "key.pem", "mosquitto.conf"))
    make_certificate(certificate, key)
    port = free_port()
    user = "user root\n" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile {certificate}\nkeyfile {key}\n{user}"
    )
    child = Child([str(program.path), "-c", str(configuration)], own_folder / "log", signal.SIGTERM)
    yield port, certificate
    child.end((signal.SIGTERM, 10.0))


# The library lets go of a socket without closing it when the handshake fails; it is closed all the same.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_over_tls_the_brokers_certificate_is_checked(tls_broker: tuple[int, Path]) -> None:
    port, certificate = tls_broker
    url = f"mqtts://127.0.0.1:{port}"
    async with connected(url, "b", ["t"], tls_ca_file=certificate) as listener:
        payload = os.urandom(200_000)
        await asyncio.gather(*[listener.broker.publish("t", payload) for _ in range(20)])
        await listener.until_received(20)
        assert {message.payload for message in listener.received} == {payload}
    async with connected(url, "b", ["t"], connect=False) as stranger:
        await stranger.until(lambda: "CERTIFICATE_VERIFY_FAILED" in stranger.broker.reason)


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"authorities in .*nothing\.pem"):
        Listener("mqtts://h", "b", [], tls_ca_file=tmp_path / "nothing.pem")


@pytest.mark.parametrize(
    "url", ["http://h", "mqtt://", "mqtt://h:99999", "mqtt://h:x", "mqtt://user:sesame@h:1/topic", "h:1883"]
)
def test_an_unusable_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"broker's URL") as raised:
        BrokerAddress.parse(url)
    assert "sesame" not in str(raised.value)


def test_the_name_of_a_sharing_group_is_not_shown() -> None:
    assert without_group("$share/secret/tillwire/1/+/+/+/hello") == "tillwire/1/+/+/+/hello"
    assert without_group("tillwire/1/a") == "tillwire/1/a"


def test_user_and_password_may_hold_any_character() -> None:
    address = BrokerAddress.parse("mqtts://a%40b:p%2Fw%3A@broker.example")
    assert address == BrokerAddress("broker.example", 8883, "a@b", "p/w:", True)
