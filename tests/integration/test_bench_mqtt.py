"""The benchmark's stage of the stores' line, at a size at which only its sums can be judged."""

from pathlib import Path

import pytest

from loadtests.broker import echo
from loadtests.broker.client import BrokerClient, BrokerTrouble
from server.engines import binaries
from server.engines.broker import EmbeddedBroker


@pytest.mark.parametrize("kind", ["mosquitto", "iotcore"])
def test_what_is_echoed_is_measured_and_the_broker_is_named(own_folder: Path, kind: str) -> None:
    if kind == "mosquitto" and binaries.find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed on this system")
    broker = EmbeddedBroker(own_folder / "mqtt", kind=kind)  # type: ignore[arg-type]
    broker.start()
    try:
        assert echo.broker_version(broker.url).startswith("mosquitto") == (kind == "mosquitto")
        for clients in (1, 5):
            outcome = echo.measure(broker.url, clients, warm_up_s=0.1, seconds=0.4)
            assert outcome.registers == clients
            assert outcome.approved == len(outcome.latencies_us) > clients
            assert min(outcome.latencies_us) > 0
        with pytest.raises(BrokerTrouble, match=r"refused|closed|did not answer"):
            BrokerClient(broker.url.replace("tillwire:", "tillwire:not-"))
        broker.kill()
        with pytest.raises(BrokerTrouble, match=r"no broker at"):
            echo.measure(broker.url, 1, warm_up_s=0.0, seconds=0.1)
    finally:
        broker.stop()
