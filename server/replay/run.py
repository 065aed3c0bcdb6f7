"""A whole replay, from an empty folder to proven books: engines, server, tills, baskets, verification."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ledger.audit import BadRow
from ledger.hot_store import HotStore, HotStoreDown
from ledger.journal import migrate
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.journal.writer import JournalDown
from ledger.verify import verify
from server.commands.invocation import tell
from server.errors import OperatorError
from server.ledger_limits import partition_count
from server.observation.logs import configure_logging
from server.replay.baskets import Basket
from server.replay.drive import Drive, Sales, open_tills
from server.replay.plan import Plan
from server.replay.premises import Engines, fresh_engines
from server.replay.report import Report
from server.replay.town import Town, found
from server.secrets import KEY_BYTES, NAMES, Secrets
from server.settings import Settings
from server.workers.supervisor import Supervisor

_LOOPBACK = "127.0.0.1"
_SHOWN_EVERY = 100
_READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay: at most `in_flight` baskets are under way at once, over `tills_per_store` connections a store."""

    plan: Plan
    folder: Path
    tills_per_store: int = 1
    in_flight: int = 64


def replay(baskets: list[Basket], settings: Settings, options: Options) -> Report:
    """Replay baskets against engines and a server started for it. On the main thread. Raises OperatorError.

    Of `settings` everything counts except addresses, TLS and the engines' URLs: those are the replay's own.
    """
    configure_logging(settings.log_level, settings.log_format)
    # What is written with these keys is thrown away, so nobody needs to keep them.
    keys = Secrets(**{name: os.urandom(KEY_BYTES) for name in NAMES})
    tell("starting the engines ...")
    with fresh_engines(options.folder) as engines:
        tell(f"{engines.label} in {options.folder}")
        settings = settings.model_copy(update=_own(engines, options.folder))
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                town = runner.run(_prepare(baskets, settings, engines, keys, options))
                sales = runner.run(_serve(baskets, settings, keys, town, options))
                tell("verifying journal, balances and Redis ...")
                return runner.run(_proven(sales, settings, engines, keys))
        except (JournalDown, HotStoreDown, OSError) as error:
            raise OperatorError(f"an engine failed, see the logs in {options.folder}: {error}") from error


def _own(engines: Engines, folder: Path) -> dict[str, Any]:
    return {
        "listen_host": _LOOPBACK,
        "listen_port": 0,
        "tls_cert_file": None,
        "tls_key_file": None,
        "tls_client_ca_file": None,
        "postgres_url": SecretStr(engines.postgres_url),
        "redis_url": SecretStr(engines.redis_url),
        "mqtt_url": None,
        "data_dir": folder,
        "secrets_file": None,
    }


async def _prepare(
    baskets: list[Basket], settings: Settings, engines: Engines, keys: Secrets, options: Options
) -> Town:
    await migrate.run(engines.postgres_url)
    await ensure_partitions(Postgres(engines.postgres_url), partition_count(settings))
    stores, households = {basket.store for basket in baskets}, {basket.household for basket in baskets}
    tell(f"opening {len(stores)} stores and {len(households)} accounts ...")
    return await found(
        engines.postgres_url, keys.token_key, stores, households, options.tills_per_store, options.plan.earn_bp
    )


async def _serve(baskets: list[Basket], settings: Settings, keys: Secrets, town: Town, options: Options) -> Sales:
    """Run the server while the baskets are sent. Whichever ends first ends the other."""
    supervisor = Supervisor(settings, keys)
    ready = asyncio.Event()
    supervisor.on_ready = ready.set
    host, port = supervisor.bind()
    server = asyncio.create_task(supervisor.run(), name="supervisor")

    async def drive() -> Sales:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await ready.wait()
        except TimeoutError:
            raise OperatorError(f"the server was not ready within {_READY_TIMEOUT_S:.0f} s") from None
        return await _sell(host, port, baskets, town, options)

    driving = asyncio.create_task(drive(), name="drive")
    try:
        await asyncio.wait([server, driving], return_when=asyncio.FIRST_COMPLETED)
        if not driving.done():
            raise OperatorError("the server ended before the last basket: the replay was stopped")
        return driving.result()
    finally:
        driving.cancel()
        await asyncio.wait([driving])
        supervisor.stop()
        await server


async def _sell(host: str, port: int, baskets: list[Basket], town: Town, options: Options) -> Sales:
    tell("signing the tills on ...")
    async with open_tills(host, port, town) as tills:
        with _progress("baskets") as bar:
            task = bar.add_task("baskets", total=len(baskets))

            def progress(sales: Sales) -> None:
                if sales.baskets % _SHOWN_EVERY == 0 or sales.baskets == len(baskets):
                    bar.update(task, completed=sales.baskets)

            drive = Drive(tills, town.cards, options.plan, progress)
            await drive.sell(baskets, options.in_flight)
        await drive.close_books(options.in_flight)
    return drive.sales


async def _proven(sales: Sales, settings: Settings, engines: Engines, keys: Secrets) -> Report:
    hot_store = HotStore.at(engines.redis_url, timeout_s=settings.redis_timeout_ms / 1000)
    try:
        with _progress("accounts") as bar:
            task = bar.add_task("accounts", total=None)

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            return Report(sales, await verify(engines.postgres_url, hot_store, keys.seal_key, progress))
    except BadRow as bad:
        return Report(sales, None, str(bad))
    finally:
        await hot_store.close()


def _progress(what: str) -> Progress:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
