"""The benchmark's stage of the stores' line, at a size at which only its sums can be judged."""

from pathlib import Path

import pytest

from loadtests.bench.mqtt import MqttStage
from loadtests.bench.stages import Bench, Run, Scale
from loadtests.bench.traffic import Traffic
from loadtests.broker import echo
from loadtests.broker.client import BrokerClient, BrokerTrouble
from loadtests.installation import Installation
from server.engines import binaries
from server.engines.broker import EmbeddedBroker

SMALL = Scale("small", 200, 70, 0.2, 0.6, 1, 40, 400, 0, 0, 0.0)


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


def test_the_stage_measures_redemptions_through_a_relay_beside_the_echo_or_says_why_not(own_folder: Path) -> None:
    said: list[str] = []
    with Installation(own_folder / "installation") as installation:
        installation.start_engines()
        run = Run(Bench(installation, SMALL, own_folder, said.append))
        run.run([MqttStage(Traffic())])
        (done,), values = run.done, run.bench.figures.values
        assert done.error == "", said
        if binaries.find_mosquitto() is None:
            assert "no Mosquitto" in done.skipped
            assert values == {}
            return
        assert "relays" not in installation.processors()
    measured = {f"{what}_{n}_{part}" for what in ("mqtt_echo", "relay") for n in (1, 64)
                for part in ("per_s", "p50_ms", "p99_ms")}  # fmt: skip
    compared = {f"relay_{n}_{part}" for n in (1, 64) for part in ("p50_to_mqtt_echo", "per_s_to_mqtt_echo")}
    assert measured | compared <= set(values)
    assert all(values[name] > 0 for name in measured | compared)


def test_without_mosquitto_nothing_is_passed_off_for_it(own_folder: Path) -> None:
    broker = EmbeddedBroker(own_folder / "mqtt", kind="iotcore")
    broker.start()
    said: list[str] = []
    try:
        installation = Installation(own_folder / "installation")
        installation.mqtt_url = broker.url
        run = Run(Bench(installation, SMALL, own_folder, said.append))
        run.run([MqttStage(Traffic())])
    finally:
        broker.stop()
    assert "no Mosquitto" in run.done[0].skipped
    assert run.bench.figures.values == {}
    assert any("which is no figure of Mosquitto" in text for text in said), said
