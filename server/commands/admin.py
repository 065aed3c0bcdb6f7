"""`tillwire admin ...`: what must be possible before anybody can sign in, or when nobody can any more.

Whoever has the database's address is trusted as the operator of the installation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError, UsageError
from server.settings import Settings

if TYPE_CHECKING:
    from admin_api.api.tokens import TokenMade
    from admin_api.office import OfficeLimits
    from admin_api.security.actor import Actor
    from ledger.clock import Clock
    from ledger.registry.registry import Registry

admin_app = typer.Typer(no_args_is_help=True, help="People of the console, and tokens of programs.")


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


@admin_app.command()
def add_token(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the token is for, as lists and the audit log show it.")],
    permissions: Annotated[str, typer.Option(help="What it permits, comma-separated: accounts:read,figures:read.")],
    days: Annotated[int, typer.Option(help="Until it expires.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Print a new token for a program that calls the HTTP interface; it is shown once and kept nowhere."""
    settings = invocation(context).attached()
    words = [word.strip() for word in permissions.split(",")]
    made = asyncio.run(_token(settings, name, words, days))
    if as_json:
        say_json(made.model_dump())
    else:
        say(f"token {made.token_id}: {made.token}")


@admin_app.command()
def revoke_token(
    context: typer.Context, token_id: Annotated[int, typer.Argument(metavar="ID", help="Number of the token.")]
) -> None:
    """End a token for good; doing so again changes nothing."""
    asyncio.run(_revoke(invocation(context).attached(), token_id))
    say(f"token {token_id} is revoked")


async def _token(settings: Settings, name: str, permissions: list[str], days: int) -> TokenMade:
    from pydantic import ValidationError

    from admin_api.api.tokens import TokenAsked, make_token
    from admin_api.problem import Problem
    from admin_api.security.permissions import Permission

    unknown = sorted(set(permissions) - set(Permission))
    if unknown:
        known = ", ".join(sorted(set(Permission) - {Permission.OWN_ACCOUNT}))
        raise UsageError(f"no such permission: {', '.join(map(repr, unknown))}; there are {known}")
    try:
        asked = TokenAsked(name=name, permissions=[Permission(word) for word in permissions], days=days)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UsageError("; ".join(faults)) from None
    async with _records(settings) as records:
        try:
            return await make_token(records, _host(), asked)
        except Problem as problem:
            raise UsageError(str(problem)) from None


async def _revoke(settings: Settings, token_id: int) -> None:
    from admin_api.api.tokens import revoke_token as revoke
    from admin_api.fields import INTEGER_MAX
    from admin_api.problem import Problem

    if not 0 < token_id <= INTEGER_MAX:
        raise UsageError(f"there is no token {token_id}")
    async with _records(settings) as records:
        try:
            await revoke(records, _host(), token_id)
        except Problem as problem:
            raise UsageError(str(problem)) from None


def _host() -> Actor:
    """Return who acts: nobody in particular, and there is nothing that the host's operator may not do."""
    from admin_api.security.actor import Actor
    from admin_api.security.permissions import Permission

    return Actor("system", "command line", frozenset(Permission))


@dataclass(frozen=True)
class _Records:
    """What the command line has of the office: see admin_api.office.Records."""

    registry: Registry
    limits: OfficeLimits
    clock: Clock


@asynccontextmanager
async def _records(settings: Settings) -> AsyncIterator[_Records]:
    """Open the registry for one command; what it cannot do is one sentence."""
    from ledger.clock import SystemClock
    from ledger.journal.postgres import Postgres
    from ledger.journal.writer import JournalDown
    from ledger.registry.registry import Conflict, Registry
    from server.office_limits import office_limits

    timeout_s = settings.postgres_timeout_ms / 1000
    registry = Registry(Postgres(required_url(settings, "postgres_url")), connections_max=1, timeout_s=timeout_s)
    try:
        yield _Records(registry, office_limits(settings), SystemClock())
    except (Conflict, JournalDown) as error:
        raise OperatorError(str(error)) from None
    finally:
        await registry.close()
