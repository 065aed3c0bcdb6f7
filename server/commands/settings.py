"""`tillwire settings` and `tillwire secrets`."""

from pathlib import Path
from typing import Annotated

import typer

from server.commands.invocation import JsonOption, invocation, say, say_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("settings")(show_settings)
    secrets = typer.Typer(help="The secret keys.", no_args_is_help=True)
    secrets.command()(create)
    secrets.command()(fingerprint)
    app.add_typer(secrets, name="secrets")


def show_settings(
    context: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/settings.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting in force and where it came from. Passwords are not shown."""
    from server.settings_table import markdown as page

    if markdown:
        say(page().rstrip("\n"))
        return
    loaded = invocation(context).load()
    values = loaded.settings.model_dump(mode="json")
    if as_json:
        say_json({name: {"value": value, "origin": loaded.origins[name]} for name, value in values.items()})
        return
    width = max(len(name) for name in values)
    for name, value in values.items():
        origin = loaded.origins[name]
        text = "-" if value is None else str(value)
        say(f"{name:<{width}}  {text}{'' if origin == 'default' else f'  ({origin})'}")


def create(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option(help="Where to; else the setting secrets_file or the data folder.")
    ] = None,
) -> None:
    """Make new keys, once. An existing file is never replaced."""
    from server.secrets import create_secrets

    settings = invocation(context).settings()
    path = file or settings.secrets_file or settings.data_dir / "secrets.toml"
    create_secrets(path)
    say(f"{path} holds new secret keys: keep it as long as the database, and apart from its backups")


def fingerprint(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show 16 hex digits that tell sets of keys apart, to compare hosts."""
    from server.secrets import load_secrets

    found = load_secrets(invocation(context).settings()).fingerprint()
    if as_json:
        say_json({"fingerprint": found})
    else:
        say(found)
