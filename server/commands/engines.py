"""`tillwire engines`: the engines alone, for whoever runs the server beside them by other means."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from server.commands.invocation import JsonOption, invocation, say, say_json, tell
from server.settings import Settings

_STOPPING = (signal.SIGTERM, signal.SIGINT)
EXIT_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(engines)


def engines(
    context: typer.Context,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the engines.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the engines that the settings do not name, migrated and as durable as in production, until SIGTERM.

    An engine that dies stays dead. Other commands with the same `data_dir` find these engines by themselves.
    """
    raise typer.Exit(_run(invocation(context).settings(data_dir=data_dir), as_json))


def _run(settings: Settings, as_json: bool) -> int:
    from server.engines.embedded import EmbeddedEngines

    for number in _STOPPING:
        signal.signal(number, _interrupt)
    running = EmbeddedEngines(settings)
    try:
        tell("starting the engines ...")
        ready = _ready(running)
        if as_json:
            say_json(ready)
        else:
            for engine in running.describe():
                say(f"{engine.name:<12}{engine.address:<24}{engine.program}")
        return _until_stopped()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        # A second signal must not leave an engine behind that the first one had begun to stop.
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        if running.running:
            tell("stopping the engines ...")
        running.stop()


def _ready(running: Any) -> dict[str, Any]:
    """Start and migrate; return where everything is. URLs carry passwords, which is why this is asked for by --json."""
    from server.commands.database import migrate_database
    from server.commands.invocation import required_url
    from server.engines.binaries import pgbench_folder

    complete, pids = running.start(), running.pids()
    postgres_url = required_url(complete, "postgres_url")
    migrate_database(postgres_url)
    folder = pgbench_folder() if "postgres_url" in pids else None
    return {
        "postgres_url": postgres_url,
        "redis_url": required_url(complete, "redis_url"),
        "mqtt_url": required_url(complete, "mqtt_url"),
        "postgres_pid": pids.get("postgres_url"),
        "valkey_pid": pids.get("redis_url"),
        "broker_pid": pids.get("mqtt_url"),
        "postgres_bin": None if folder is None else str(folder),
    }


def _until_stopped() -> int:
    # Blocked first: a signal between the last line above and the waiting would otherwise be an interruption.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    signal.sigwait(_STOPPING)
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
