"""What every profile can be told, on the command line, in the environment, in its .conf file, or in the web UI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from locust import events
from locust.env import Environment

from loadtests.users.population import Population, population_of

_SECONDS = 600
_REGISTERS = 40


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one test; those of the master are those of every worker."""

    population: Population
    registers: int
    seconds: int
    first_terminal: int
    admin_url: str
    mqtt_url: str

    @classmethod
    def of(cls, environment: Environment) -> Options:
        """Return the options of a test. Raises OSError or ValueError when the population cannot be read."""
        told: Any = environment.parsed_options
        return cls(
            population_of(told.population),
            int(told.registers),
            int(told.seconds),
            int(told.first_terminal),
            told.admin_url,
            told.mqtt_url,
        )


def _add_options(parser: Any) -> None:
    group = parser.add_argument_group("Tillwire")
    group.add_argument(
        "--population",
        env_var="TILLWIRE_POPULATION",
        default="population.json",
        help="File of terminals and cards, as `tillwire add population` writes it.",
    )
    group.add_argument(
        "--registers", env_var="TILLWIRE_REGISTERS", type=int, default=_REGISTERS, help="Registers at the peak."
    )
    group.add_argument(
        "--seconds", env_var="TILLWIRE_SECONDS", type=int, default=_SECONDS, help="Length of the whole test."
    )
    group.add_argument(
        "--first-terminal",
        env_var="TILLWIRE_FIRST_TERMINAL",
        type=int,
        default=0,
        help="Number of the first terminal, so that two tests side by side share none.",
    )
    group.add_argument(
        "--admin-url",
        env_var="TILLWIRE_ADMIN_URL",
        default="http://127.0.0.1:7480",
        help="Where health and metrics are.",
    )
    # It may hold a password, and the web UI shows what it is given.
    parser.add_argument(
        "--mqtt-url",
        env_var="TILLWIRE_MQTT_URL",
        default="mqtt://127.0.0.1:7414",
        help="The MQTT broker, with user and password.",
        include_in_web_ui=False,
    )


events.init_command_line_parser.add_listener(_add_options)
