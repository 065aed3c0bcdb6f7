"""Fills `Settings`: command line over environment `TILLWIRE_...` over one TOML file over defaults."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from server.errors import TRACEBACK_VARIABLE, UsageError
from server.settings import Settings

PREFIX = "TILLWIRE_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
RELAY_PREFIX = PREFIX + "RELAY_"
RELAY_TABLE = "relay"
_SECRETS_PREFIX = PREFIX + "SECRET_"
_TABLES = frozenset({RELAY_TABLE})

Model = TypeVar("Model", bound=BaseModel)


class SettingsError(UsageError):
    """A setting is unknown or its value is not allowed; the sentence names it and where it came from."""


@dataclass(frozen=True)
class Loaded:
    """Settings with the place each value came from: `command line`, an environment variable, a file, or `default`."""

    settings: Settings
    origins: Mapping[str, str]
    unknown_variables: tuple[str, ...]


class _Environment(Settings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Read all sources. `overrides` are the command line's values by setting name; None means not given.

    Raises SettingsError. `config` defaults to the file that `TILLWIRE_CONFIG` names, if it does.
    """
    settings, origins = read(Settings, _Environment, config, overrides)
    return Loaded(settings, origins, unknown_variables(PREFIX, Settings.model_fields))


def read(
    model: type[Model],
    environment: type[BaseSettings],
    config: Path | None,
    overrides: Mapping[str, Any] | None,
    table: str | None = None,
) -> tuple[Model, Mapping[str, str]]:
    """Fill a model of settings; return it with the place that each value came from. Raises SettingsError.

    `environment` is the model as pydantic reads it from the environment. Of the file it is everything outside the
    tables of other models, or one `table`.
    """
    if config is None and os.environ.get(CONFIG_VARIABLE):
        config = Path(os.environ[CONFIG_VARIABLE])
    sources: list[tuple[str, dict[str, Any]]] = []
    if config is not None:
        sources.append((f"file {config}", _part(_file_values(config), table, config)))
    sources.append(("environment", EnvSettingsSource(environment)()))
    sources.append(("command line", {name: value for name, value in (overrides or {}).items() if value is not None}))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(model.model_fields, "default")
    prefix = environment.model_config["env_prefix"]
    for origin, given in sources:
        for name, value in given.items():
            _check_name(name, origin, model)
            values[name] = value
            origins[name] = f"environment {prefix}{name.upper()}" if origin == "environment" else origin
    try:
        return model.model_validate(values), origins
    except ValidationError as error:
        raise SettingsError(_sentence(error, origins)) from None


def to_handover(settings: Settings) -> dict[str, Any]:
    """Return settings as JSON values with the secrets in the clear, for an inherited pipe only."""
    values = settings.model_dump(mode="json")
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            values[name] = value.get_secret_value()
    return values


def _file_values(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from None


def _part(values: dict[str, Any], table: str | None, path: Path) -> dict[str, Any]:
    if table is None:
        return {name: value for name, value in values.items() if name not in _TABLES}
    part = values.get(table, {})
    if not isinstance(part, dict):
        raise SettingsError(f"{table} in the settings file {path} must be a table: [{table}]")
    return part


def _check_name(name: str, origin: str, model: type[BaseModel]) -> None:
    if name in model.model_fields:
        return
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; `tillwire settings` lists them all"
    raise SettingsError(f"there is no setting {name!r} ({origin}){hint}")


def unknown_variables(prefix: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the variables of the environment that look like settings of these names and are none."""
    # Not an error: orchestrators inject variables such as TILLWIRE_SERVICE_HOST for a service of that name.
    known = {prefix + name.upper() for name in names} | {CONFIG_VARIABLE, TRACEBACK_VARIABLE}
    others = tuple(other for other in (_SECRETS_PREFIX, RELAY_PREFIX) if other != prefix)
    return tuple(
        sorted(
            name for name in os.environ if name.startswith(prefix) and name not in known and not name.startswith(others)
        )
    )


def _sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    # include_input stays off: an URL's password must not end up on a terminal.
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"the settings contradict each other: {text}"
    name = str(first["loc"][0])
    return f"setting {name} ({origins[name]}) is not usable: {text[:1].lower()}{text[1:]}"
