"""`tillwire add population`: accounts by the million for load tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError, UsageError
from server.population.history import LOTS_MAX
from server.secrets import Secrets, load_secrets

if TYPE_CHECKING:
    from server.population.programme import Founded, Relays

_ACCOUNTS_MAX = 100_000_000
_TERMINALS_MAX = 1_000_000
_ROWS_OF_ACCOUNT_MAX = 10_000
_RELAYS_MAX = 10_000
_RELAY_TERMINALS_MAX = 249
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - it is what they are replaced by


def register(app: typer.Typer) -> None:
    """Add the command to those of `add`."""
    app.command()(population)


def population(
    context: typer.Context,
    accounts: Annotated[int, typer.Option(min=1, max=_ACCOUNTS_MAX, help="Accounts, each with an active card.")],
    terminals: Annotated[int, typer.Option(min=1, max=_TERMINALS_MAX, help="Terminals, all with one secret.")],
    lots: Annotated[int, typer.Option(min=1, max=LOTS_MAX, help="Lots of an account, on average.")] = 6,
    journal_rows: Annotated[
        int,
        typer.Option(min=0, help=f"Least rows of the journal; {_ROWS_OF_ACCOUNT_MAX:,} an account at most."),
    ] = 0,
    relays: Annotated[int, typer.Option(min=0, max=_RELAYS_MAX, help="Further stores, each with a relay.")] = 0,
    relay_terminals: Annotated[
        int, typer.Option(min=1, max=_RELAY_TERMINALS_MAX, help="Terminals of each store with a relay.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option(help="File for the JSON with the terminals' secret, readable by its owner alone.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fill an empty programme for load tests: terminals load-0, load-1, ... and accounts with points and a past.

    Stores with a relay have terminals store-0-0, store-0-1, ...; the relays' credentials are in the JSON.

    The cards are EAN-13 of the range 2, 2 and the number of the account in eleven digits. `tillwire verify` passes.
    """
    from server.population.programme import CURRENCY, RELAY_TERMINAL_PREFIX, TERMINAL_PREFIX, Relays

    if journal_rows > accounts * _ROWS_OF_ACCOUNT_MAX:
        raise UsageError(f"{accounts} accounts hold {accounts * _ROWS_OF_ACCOUNT_MAX} rows of the journal at most")
    # Whoever learns of it afterwards has a population whose secret nobody knows.
    if output is not None and not os.access(output.absolute().parent, os.W_OK):
        raise UsageError(f"{output} cannot be written: {output.absolute().parent} is no folder that may be written to")
    settings = invocation(context).attached()
    secrets = load_secrets(settings)
    url = required_url(settings, "postgres_url")
    signal.signal(signal.SIGTERM, _interrupt)
    stores = Relays(relays, relay_terminals, secrets.relay_master)
    founded = _populated(url, secrets, accounts, terminals, lots, journal_rows, stores, quiet=as_json)
    made = {
        "host": _EVERY_ADDRESS.get(settings.listen_host, settings.listen_host),
        "port": settings.listen_port,
        "terminals": terminals,
        "terminal_prefix": TERMINAL_PREFIX,
        "secret": founded.secret,
        "accounts": accounts,
        "first_card": 0,
        "currency": CURRENCY,
        "lots": lots,
        "relays": list(founded.relays),
        "relay_terminals": relay_terminals if relays else 0,
        "relay_terminal_prefix": RELAY_TERMINAL_PREFIX,
    }
    if output is not None:
        _write(output, made)
    if as_json:
        say_json(made)
    else:
        say(f"accounts {accounts}, terminals {terminals}, their secret {founded.secret}")


def _populated(
    url: str,
    secrets: Secrets,
    accounts: int,
    terminals: int,
    lots: int,
    journal_rows: int,
    relays: Relays | None,
    *,
    quiet: bool,
) -> Founded:
    """Do it and return what was founded; what was begun is taken back when it fails."""
    from ledger.journal.onboarding import NotOnboarded
    from ledger.journal.writer import JournalDown
    from server.population.filling import Plan, clear, fill
    from server.population.programme import found

    try:
        founded = asyncio.run(found(url, terminals, relays))
        plan = Plan(accounts, lots, journal_rows, founded.origin, secrets.token_key, secrets.seal_key)
        try:
            with _progress(accounts, quiet=quiet) as progress:
                fill(url, plan, progress)
        except BaseException:
            clear(url)
            raise
    except (NotOnboarded, JournalDown, BrokenExecutor) as error:
        raise OperatorError(f"the population could not be written: {error}") from None
    return founded


@contextmanager
def _progress(accounts: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("accounts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("accounts", total=accounts)
        yield lambda done: bar.update(task, completed=done)


def _write(file: Path, made: dict[str, Any]) -> None:
    from server.engines.keyfile import write_private

    try:
        write_private(file, json.dumps(made) + "\n")
    except OSError as error:
        raise OperatorError(f"{file} cannot be written: {error.strerror}") from None


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
