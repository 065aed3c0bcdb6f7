"""What every sub-command shares: the options before its name, settings, and how results are printed."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from server.engines.embedded import attached
from server.errors import UsageError
from server.settings import Settings
from server.settings_load import Loaded, load

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@dataclass(frozen=True)
class Invocation:
    """The options that stand before a sub-command; in `typer.Context.obj`."""

    config: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def load(self, **options: Any) -> Loaded:
        """Read the settings; `options` are a sub-command's own, None where not given. Raises SettingsError."""
        given = {name: value for name, value in options.items() if value is not None}
        return load(self.config, {**self.overrides, **given})

    def settings(self, **options: Any) -> Settings:
        """Read the settings without where they came from."""
        return self.load(**options).settings

    def attached(self, **options: Any) -> Settings:
        """Read the settings; URLs that are not set are those of the engines that run on the same `data_dir`."""
        return attached(self.load(**options).settings)


def invocation(context: typer.Context) -> Invocation:
    """Return the options before the sub-command."""
    return context.ensure_object(Invocation)


def assignments(texts: Sequence[str]) -> dict[str, str]:
    """Parse `--set name=value`. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set takes name=value, not {text!r}")
        found[name.strip()] = value
    return found


def say(text: str = "") -> None:
    """Print a line of a result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_json(result: Any) -> None:
    """Print a result as one JSON object on a line."""
    say(orjson.dumps(result, option=orjson.OPT_NON_STR_KEYS).decode())


def tell(text: str) -> None:
    """Print a line for a person, beside the result, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def required_url(settings: Settings, name: str) -> str:
    """Return the URL in a setting. Raises UsageError when it is not set."""
    url = getattr(settings, name)
    if url is None:
        raise UsageError(
            f"{name} is not set and neither `tillwire up` nor `tillwire engines` runs on {settings.data_dir}: set "
            f"TILLWIRE_{name.upper()}"
        )
    return str(url.get_secret_value())
