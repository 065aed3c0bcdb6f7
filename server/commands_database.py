"""`tillwire migrate` and `verify`."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from server.errors import OperatorError
from server.invocation import JsonOption, invocation, required_url, say, say_json
from server.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(migrate)
    app.command()(verify)


def migrate(context: typer.Context, as_json: JsonOption = False) -> None:
    """Bring the database to this release. Safe to run again, and on several hosts at once."""
    from ledger.journal import migrate as migrations

    settings = invocation(context).settings()
    try:
        applied = asyncio.run(migrations.run(_postgres_url(settings)))
    except migrations.MigrationError as error:
        raise OperatorError(str(error)) from None
    if as_json:
        say_json({"applied": applied})
    else:
        say("\n".join(applied) if applied else "nothing to do")


def verify(
    context: typer.Context,
    skip_redis: Annotated[bool, typer.Option(help="Look at PostgreSQL only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Recompute every account from its journal. Exits with 1 and names the first row that is wrong."""
