"""The stage of the stores' line: the broker's own echo, then redemptions through a relay and the same broker."""

from __future__ import annotations

from loadtests.bench.stages import Bench, Skipped
from loadtests.bench.traffic import Traffic
from loadtests.broker import echo
from loadtests.generator.outcome import Outcome

_CLIENTS = (1, 64)
_MOSQUITTO = "mosquitto"


class MqttStage:
    """What a store's registers wait for when headquarters is behind a broker, beside what the broker itself takes."""

    name = "mqtt"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `mqtt_echo_*` and `relay_*`. Raises Skipped without Mosquitto."""
        url = bench.installation.mqtt_url
        if url is None:
            raise Skipped("the engines have no MQTT broker")
        if not echo.broker_version(url).startswith(_MOSQUITTO):
            _tell("the embedded broker's own echo, which is no figure of Mosquitto", bench, _echo(bench, url, 1))
            raise Skipped(
                "there is no Mosquitto here (apt-get install mosquitto), and the embedded broker is no yardstick"
            )
        for clients in _CLIENTS:
            outcome = _echo(bench, url, clients)
            p50, p99 = outcome.percentiles_ms(0.5, 0.99)
            bench.figures.put(f"mqtt_echo_{clients}_per_s", outcome.approved_per_s)
            bench.figures.put(f"mqtt_echo_{clients}_p50_ms", p50)
            bench.figures.put(f"mqtt_echo_{clients}_p99_ms", p99)
            _tell(f"Mosquitto's echo, {clients} clients", bench, outcome)


def _echo(bench: Bench, url: str, clients: int) -> Outcome:
    return echo.measure(url, clients, warm_up_s=bench.scale.warm_up_s, seconds=bench.scale.measuring_s)


def _tell(what: str, bench: Bench, outcome: Outcome) -> None:
    p50, p99 = outcome.percentiles_ms(0.5, 0.99)
    bench.say(f"{what}: {outcome.approved_per_s:,.0f} a second, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
