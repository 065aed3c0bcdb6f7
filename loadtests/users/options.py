"""What every profile can be told, on the command line, in the environment, in its .conf file, or in the web UI."""

from __future__ import annotations

import logging
import ssl
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from locust import events
from locust.env import Environment

from loadtests.population import Population

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
    admin_token: str = field(repr=False)
    mqtt_url: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, environment: Environment) -> Options:
        """Return the options of a test. Raises OSError or ValueError when the population cannot be read."""
        told: Any = environment.parsed_options
        return cls(
            _population(told.population),
            int(told.registers),
            int(told.seconds),
            int(told.first_terminal),
            told.admin_url,
            told.admin_token,
            told.mqtt_url,
            _tls(told.tls_ca) if told.tls_ca else None,
        )


@lru_cache(maxsize=1)
def _population(file: str) -> Population:
    return Population.read(Path(file))


@lru_cache(maxsize=1)
def _tls(authorities: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities)


def _add_options(parser: Any) -> None:
    # What names a file or may hold a password is not for the web UI.
    parser.add_argument(
        "--population",
        env_var="TILLWIRE_POPULATION",
        default="population.json",
        help="File of terminals and cards, as `tillwire add population` writes it.",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--registers", env_var="TILLWIRE_REGISTERS", type=int, default=_REGISTERS, help="Registers at the peak."
    )
    parser.add_argument(
        "--seconds", env_var="TILLWIRE_SECONDS", type=int, default=_SECONDS, help="Length of the whole test."
    )
    parser.add_argument(
        "--tls-ca",
        env_var="TILLWIRE_TLS_CA",
        default="",
        help="PEM file of the authority behind the server's certificate; with it registers speak TLS.",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--first-terminal",
        env_var="TILLWIRE_FIRST_TERMINAL",
        type=int,
        default=0,
        help="Number of the first terminal, so that two tests side by side share none.",
    )
    parser.add_argument(
        "--admin-url",
        env_var="TILLWIRE_ADMIN_URL",
        default="http://127.0.0.1:7480",
        help="Where health, metrics and the admin API are.",
    )
    parser.add_argument(
        "--admin-token",
        env_var="TILLWIRE_ADMIN_TOKEN",
        default="",
        help="A token for the admin API; without one a profile has no operators, dashboards and apps.",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--mqtt-url",
        env_var="TILLWIRE_MQTT_URL",
        default="mqtt://127.0.0.1:7414",
        help="The MQTT broker, with user and password.",
        include_in_web_ui=False,
    )


def _check(environment: Environment, **_told: Any) -> None:
    """End with one sentence, not with one from every user, when the options cannot work."""
    try:
        options = Options.of(environment)
    except (OSError, ValueError, TypeError) as error:
        logging.getLogger(__name__).error("no population: %s", error)  # noqa: TRY400 (the sentence says it all)
        sys.exit(2)
    missing = options.first_terminal + options.registers - options.population.terminals
    if missing > 0:
        logging.getLogger(__name__).error("the population has %d terminals too few for so many registers", missing)
        sys.exit(2)


events.init_command_line_parser.add_listener(_add_options)
events.init.add_listener(_check)
