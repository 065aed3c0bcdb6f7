"""`tillwire admin ...`: what must be possible before anybody can sign in, or when nobody can any more."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import UsageError

admin_app = typer.Typer(no_args_is_help=True, help="People of the console.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(admin_app, name="admin")


@admin_app.command()
def create_owner(
    context: typer.Context,
    email: Annotated[str, typer.Option(help="Address for e-mail, with which the owner signs in.")],
    name: Annotated[str, typer.Option(help="Name of the owner.")],
    another: Annotated[
        bool, typer.Option("--another", help="Also when an owner can sign in; for one who lost password or phone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a link, good once, by which an owner chooses a password and sets up an authenticator."""
    email, name = email.strip(), name.strip()
    if "@" not in email.strip("@") or not (email + name).isprintable() or not name:
        raise UsageError("--email takes an address for e-mail, --name a name")
    from server.first_owner import owner_link

    settings = invocation(context).attached()
    required_url(settings, "postgres_url")
    link = asyncio.run(owner_link(settings, email, name, another=another))
    if as_json:
        say_json({"link": link})
    else:
        say(link)
