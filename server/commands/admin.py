"""`tillwire admin ...`: what must be possible before anybody can sign in, or when nobody can any more."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError, UsageError
from server.settings import Settings

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
    settings = invocation(context).attached()
    link = asyncio.run(_link(settings, email, name, another=another))
    if as_json:
        say_json({"link": link})
    else:
        say(link)


async def _link(settings: Settings, email: str, name: str, *, another: bool) -> str:
    from admin_api.invitations import OwnerExists, first_owner_link
    from ledger.clock import SystemClock
    from ledger.journal.postgres import Postgres
    from ledger.journal.writer import JournalDown
    from ledger.registry.registry import Conflict, Registry
    from server.console_url import console_url
    from server.office_limits import office_limits

    timeout_s = settings.postgres_timeout_ms / 1000
    registry = Registry(Postgres(required_url(settings, "postgres_url")), connections_max=1, timeout_s=timeout_s)
    try:
        return await first_owner_link(
            registry,
            email=email,
            name=name,
            console_url=console_url(settings),
            now_ms=SystemClock().now_ms(),
            invitation_s=office_limits(settings).invitation_s,
            another=another,
        )
    except (OwnerExists, Conflict, JournalDown) as error:
        raise OperatorError(str(error)) from None
    finally:
        await registry.close()
