"""Prints docs/settings.md from the model: `python -m server.settings_table > docs/settings.md`."""

import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from server.relay.settings import RELAY_GROUPS, RelaySettings
from server.settings import GROUPS, Settings

_INTRODUCTION = """\
# Settings

Generated from the model by `make fix`; a test fails when this page is stale.

Every setting can be given in three places. The command line wins over the environment, the environment over the file,
the file over the default:

1. command line: `tillwire --set idle_timeout_ms=60000 serve`; the frequent ones have an option of their own (`--help`);
2. environment: `TILLWIRE_` and the name in capitals, as in `TILLWIRE_IDLE_TIMEOUT_MS=60000`;
3. one TOML file, named by `--config` or `TILLWIRE_CONFIG`: `idle_timeout_ms = 60000`.

The unit is in the name (`_ms` milliseconds, `_bytes_max`, `_entries_max` ...). `tillwire settings` shows the values in
force and where each came from. Secret keys are no settings: see `secrets_file`.
"""
_RELAY_INTRODUCTION = """
# Settings of a relay

`tillwire relay` runs in a store and has settings of its own ([relay.md](relay.md)). They are given in the same three
places: on the command line as above, in the environment as `TILLWIRE_RELAY_` and the name in capitals, as in
`TILLWIRE_RELAY_MQTT_URL`, and in the table `[relay]` of the TOML file. `credential` is not taken from a command line.
"""


def markdown() -> str:
    """Return the whole page."""
    return _INTRODUCTION + _tables(GROUPS, Settings) + _RELAY_INTRODUCTION + _tables(RELAY_GROUPS, RelaySettings)


def _tables(groups: Sequence[type[BaseModel]], model: type[BaseModel]) -> str:
    parts: list[str] = []
    for group in groups:
        heading, _, rest = (group.__doc__ or "").partition(". ")
        parts.append(f"\n## {group.__name__}\n\n{heading.rstrip('.')}.{' ' + rest if rest else ''}\n\n")
        parts.append("| setting | default | meaning |\n| --- | --- | --- |\n")
        for name in group.model_fields:
            field = model.model_fields[name]
            parts.append(f"| `{name}` | {_default(field)} | {field.description}{_range(field)} |\n")
    return "".join(parts)


def _default(field: FieldInfo) -> str:
    if field.default is None or isinstance(field.default, SecretStr):
        return "-"
    return f"`{field.default}`"


def _range(field: FieldInfo) -> str:
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        for kind in ("ge", "gt", "le"):
            if getattr(rule, kind, None) is not None:
                bounds[kind] = getattr(rule, kind)
    lowest = bounds.get("ge", bounds["gt"] + 1 if "gt" in bounds else None)
    if lowest is None:
        return ""
    return f" {lowest} to {bounds['le']}." if "le" in bounds else f" {lowest} or more."


if __name__ == "__main__":
    sys.stdout.write(markdown())
