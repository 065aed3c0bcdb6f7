"""The stage of the stores' line: the broker's own echo, then redemptions through a relay and the same broker."""

from __future__ import annotations

from loadtests.bench.stages import RELAY_TERMINALS, Bench, Skipped
from loadtests.bench.traffic import Traffic, confirmed_at
from loadtests.broker import echo
from loadtests.generator.load import Load
from loadtests.generator.outcome import Outcome
from loadtests.generator.target import Target
from loadtests.population import Population

_REGISTERS = (1, RELAY_TERMINALS)
_MOSQUITTO = "mosquitto"
_NONE = "there is no Mosquitto here (apt-get install mosquitto), and the embedded broker is no yardstick"


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
            _tell(bench, "the embedded broker's own echo, which is no figure of Mosquitto", _echo(bench, url, 1))
            raise Skipped(_NONE)
        self._traffic.warm(bench)
        store = bench.installation.start_relay()
        try:
            for registers in _REGISTERS:
                _put_echo(bench, registers, _echo(bench, url, registers))
                _put_relay(bench, registers, store)
        finally:
            bench.installation.stop_relays()


def _echo(bench: Bench, url: str, clients: int) -> Outcome:
    return echo.measure(url, clients, warm_up_s=bench.scale.warm_up_s, seconds=bench.scale.measuring_s)


def _put_echo(bench: Bench, clients: int, outcome: Outcome) -> None:
    p50, p99 = outcome.percentiles_ms(0.5, 0.99)
    bench.figures.put(f"mqtt_echo_{clients}_per_s", outcome.approved_per_s)
    bench.figures.put(f"mqtt_echo_{clients}_p50_ms", p50)
    bench.figures.put(f"mqtt_echo_{clients}_p99_ms", p99)
    _tell(bench, f"Mosquitto's echo, {clients} clients", outcome)


def _put_relay(bench: Bench, registers: int, store: Population) -> None:
    """Let a store's registers redeem through its relay, and compare with the echo."""
    installation, values = bench.installation, bench.figures.values
    load = Load(registers, bench.scale.measuring_s, warm_up_s=bench.scale.warm_up_s)
    outcome = confirmed_at(installation, Target(store), load, observe=installation.processors)
    p50, p99 = outcome.percentiles_ms(0.5, 0.99)
    name, echoed = f"relay_{registers}", f"mqtt_echo_{registers}"
    bench.figures.put(f"{name}_per_s", outcome.approved_per_s)
    bench.figures.put(f"{name}_p50_ms", p50)
    bench.figures.put(f"{name}_p99_ms", p99)
    bench.figures.put(f"{name}_p50_to_mqtt_echo", p50 / values[f"{echoed}_p50_ms"])
    bench.figures.put(f"{name}_per_s_to_mqtt_echo", outcome.approved_per_s / values[f"{echoed}_per_s"])
    if outcome.approved:
        bench.figures.put(f"{name}_us_per_redeem", sum(outcome.observed.values()) / outcome.approved * 1e6)
    _tell(bench, f"redeems through a relay, {registers} registers", outcome)


def _tell(bench: Bench, what: str, outcome: Outcome) -> None:
    p50, p99 = outcome.percentiles_ms(0.5, 0.99)
    errors = "".join(f", {count} {code}" for code, count in outcome.errors.items())
    bench.say(f"{what}: {outcome.approved_per_s:,.0f} a second, p50 {p50:.2f} ms, p99 {p99:.2f} ms{errors}")
