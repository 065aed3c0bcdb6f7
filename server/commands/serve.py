"""`tillwire up`, `serve`, `health`."""

import asyncio
import ssl
import sys
import urllib.error
import urllib.request
from typing import Annotated, Any

import orjson
import typer

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError
from server.settings import Settings

_HEALTH_TIMEOUT_S = 5.0

Workers = Annotated[int | None, typer.Option(help="Worker processes on the one port.")]
ListenHost = Annotated[str | None, typer.Option(help="Address for registers.")]
ListenPort = Annotated[int | None, typer.Option(help="TCP port for registers; 0 takes a free one.")]
AdminPort = Annotated[int | None, typer.Option(help="Port for health, metrics and the admin HTTP layer.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(serve)
    app.command()(health)


def up(
    context: typer.Context,
    workers: Workers = None,
    listen_host: ListenHost = None,
    listen_port: ListenPort = None,
    admin_port: AdminPort = None,
) -> None:
    """Try it: start own engines, create a demo programme, serve. Data stay in the folder `data_dir`."""
    from server.commands.up import run_up

    loaded = invocation(context).load(
        workers=workers, listen_host=listen_host, listen_port=listen_port, admin_port=admin_port
    )
    settings = loaded.settings
    if loaded.origins["log_format"] == "default" and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "console"})
    raise typer.Exit(run_up(settings, loaded.unknown_variables))


def serve(
    context: typer.Context,
    workers: Workers = None,
    listen_host: ListenHost = None,
    listen_port: ListenPort = None,
    admin_port: AdminPort = None,
) -> None:
    """Serve registers with the engines that the settings name."""
    from server.commands.serving import run_server
    from server.observation.logs import configure_logging
    from server.secrets import load_secrets

    loaded = invocation(context).load(
        workers=workers, listen_host=listen_host, listen_port=listen_port, admin_port=admin_port
    )
    settings = loaded.settings
    postgres_url = required_url(settings, "postgres_url")
    required_url(settings, "redis_url")
    _expect_migrated(postgres_url)
    configure_logging(settings.log_level, settings.log_format)
    raise typer.Exit(run_server(settings, load_secrets(settings), unknown_variables=loaded.unknown_variables))


def _expect_migrated(postgres_url: str) -> None:
    """Raise OperatorError for a database of an earlier release; one that is away may be of this one when it comes."""
    from ledger.journal.migrate import MigrationError, lacking
    from ledger.journal.writer import JournalDown

    try:
        missing = asyncio.run(lacking(postgres_url))
    except JournalDown:
        return
    except MigrationError as error:
        raise OperatorError(str(error)) from None
    if missing:
        raise OperatorError(f"the database lacks {missing[0]}: run `tillwire migrate`")


def health(
    context: typer.Context,
    live: Annotated[bool, typer.Option(help="Ask only whether the process works, not whether it serves.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the running server how it is. Exits with 0 when it is ready (or live, with --live)."""
    found = _ask_health(invocation(context).settings())
    good = bool(found["live"] if live else found["live"] and found["ready"])
    if as_json:
        say_json(found)
    else:
        state = found["state"] if found["live"] else "hung"
        standby = _on_standby(found)
        say(
            state
            + (f": down: {', '.join(found['down'])}" if found["down"] else "")
            + (f"; without Redis: {', '.join(standby)}" if standby else "")
        )
    raise typer.Exit(0 if good else 1)


def _on_standby(found: dict[str, Any]) -> list[str]:
    """Return the partitions that are decided in a worker's memory."""
    partitions = [worker.get("detail", {}).get("partitions", {}) for worker in found.get("workers", [])]
    return [f"partition {number}" for part in partitions for number, shown in part.items() if shown.get("standby")]


def _ask_health(settings: Settings) -> dict[str, Any]:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(settings.admin_host, settings.admin_host)  # noqa: S104
    scheme = "http" if settings.admin_tls_cert_file is None else "https"
    url = f"{scheme}://{host}:{settings.admin_port}/health/ready"
    try:
        with _opener(settings).open(url, timeout=_HEALTH_TIMEOUT_S) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise OperatorError(f"no server answers at {url}: {getattr(error, 'reason', error)}") from None
    try:
        found = orjson.loads(text)
        return dict(found) if {"live", "ready", "state", "down"} <= found.keys() else _not_ours(url)
    except (ValueError, AttributeError):
        return _not_ours(url)


def _opener(settings: Settings) -> urllib.request.OpenerDirector:
    """Return what asks this host's own server: never by a proxy of the environment, and sure of its certificate."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if settings.admin_tls_cert_file is not None:
        # It is for a public name, and asked for by the address of this host; but it must be that very certificate.
        try:
            context = ssl.create_default_context(cafile=str(settings.admin_tls_cert_file))
        except OSError as error:
            raise OperatorError(f"admin_tls_cert_file cannot be used: {error}") from None
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _not_ours(url: str) -> dict[str, Any]:
    raise OperatorError(f"what answers at {url} is not Tillwire")
