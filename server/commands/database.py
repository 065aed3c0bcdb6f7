"""`tillwire migrate` and `verify`."""

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError
from server.settings import Settings

EXIT_NOT_CLEAN = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(migrate)
    app.command()(verify)


def migrate(context: typer.Context, as_json: JsonOption = False) -> None:
    """Bring the database to this release. Safe to run again, and on several hosts at once."""
    applied = migrate_database(required_url(invocation(context).attached(), "postgres_url"))
    if as_json:
        say_json({"applied": applied})
    else:
        say("\n".join(applied) if applied else "nothing to do")


def migrate_database(url: str) -> list[str]:
    """Bring a database to this release and return what was applied. Raises OperatorError."""
    from ledger.journal import migrate as migrations

    try:
        return asyncio.run(migrations.run(url))
    except migrations.MigrationError as error:
        raise OperatorError(str(error)) from None


def verify(
    context: typer.Context,
    skip_redis: Annotated[bool, typer.Option(help="Look at PostgreSQL only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Recompute every account from its journal. Exits with 1 and names the first row that is wrong."""
    from ledger.audit import BadRow
    from ledger.hot_store import HotStoreDown
    from ledger.journal.writer import JournalDown

    settings = invocation(context).attached()
    try:
        verified = asdict(asyncio.run(_verified(settings, skip_redis)))
    except BadRow as bad:
        found = {"clean": False, "account": bad.account, "seq": bad.seq, "what": str(bad)}
        say_json(found) if as_json else say(f"NOT CLEAN: {bad}")
        raise typer.Exit(EXIT_NOT_CLEAN) from None
    except (JournalDown, HotStoreDown, OSError) as error:
        raise OperatorError(f"the journal could not be verified: {error}") from None
    if as_json:
        say_json({"clean": True, **verified})
    else:
        say("clean: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in verified.items()))


async def _verified(settings: Settings, skip_redis: bool) -> Any:
    from server.proof import prove
    from server.secrets import load_secrets

    postgres_url = required_url(settings, "postgres_url")
    redis_url = None if skip_redis else required_url(settings, "redis_url")
    columns = (TextColumn("accounts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("accounts", total=None)
        return await prove(
            postgres_url,
            redis_url,
            load_secrets(settings).seal_key,
            lambda done, total: bar.update(task, completed=done, total=total),
            redis_timeout_s=settings.redis_timeout_ms / 1000,
        )
