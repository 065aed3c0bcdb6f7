"""Links for the first owner, from the command line: who has the settings with the database's password may have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from admin_api.security.invitations import OwnerExists, first_owner_link, newcomer_link
from ledger.clock import SystemClock
from ledger.journal.postgres import Postgres
from ledger.journal.writer import JournalDown
from ledger.registry.registry import Conflict, Registry
from server.console_url import console_url
from server.errors import OperatorError
from server.office_limits import office_limits
from server.settings import Settings


async def owner_link(settings: Settings, email: str, name: str, *, another: bool) -> str:
    """Return a one-time link for an owner of this name. Raises OperatorError."""
    async with _registry(settings) as registry:
        return await first_owner_link(
            registry,
            email=email,
            name=name,
            console_url=console_url(settings),
            now_ms=SystemClock().now_ms(),
            invitation_s=office_limits(settings).invitation_s,
            another=another,
        )


async def link_for_newcomer(settings: Settings) -> str | None:
    """Return the path of a one-time link for an owner where nobody was ever invited, else None.

    It goes behind the address of the console, whose port may not be known yet. Raises OperatorError.
    """
    async with _registry(settings) as registry:
        return await newcomer_link(
            registry, console_url="", now_ms=SystemClock().now_ms(), invitation_s=office_limits(settings).invitation_s
        )


@asynccontextmanager
async def _registry(settings: Settings) -> AsyncIterator[Registry]:
    if settings.postgres_url is None:
        raise OperatorError("nobody can be invited without postgres_url")
    timeout_s = settings.postgres_timeout_ms / 1000
    registry = Registry(Postgres(settings.postgres_url.get_secret_value()), connections_max=1, timeout_s=timeout_s)
    try:
        yield registry
    except (OwnerExists, Conflict, JournalDown) as error:
        raise OperatorError(str(error)) from None
    finally:
        await registry.close()
