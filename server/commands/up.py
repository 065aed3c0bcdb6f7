"""`tillwire up`: everything a newcomer needs, started by one command and stopped by Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from admin_api.security.invitations import NEWCOMER
from server import demo
from server.commands.database import migrate_database
from server.commands.invocation import required_url, say, tell
from server.commands.serving import run_server
from server.console_url import console_url
from server.engines.embedded import Description, EmbeddedEngines
from server.first_owner import link_for_newcomer
from server.observation.logs import configure_logging
from server.secrets import load_secrets
from server.settings import Settings

_DEMO_CARD = "2000000000015"
EXIT_INTERRUPTED = 130


def run_up(settings: Settings, unknown_variables: Sequence[str]) -> int:
    """Start engines, migrate, create the demo programme, serve; stop everything in the opposite order."""
    configure_logging(settings.log_level, settings.log_format)
    # Both raise at once: asyncio would turn Ctrl-C into a cancellation, which what is awaited just then may swallow.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    engines = EmbeddedEngines(settings)
    try:
        tell("starting the engines ...")
        complete = engines.start()
        secrets = load_secrets(complete, create=True)
        migrate_database(required_url(complete, "postgres_url"))
        tell("preparing the demo programme ...")
        asyncio.run(demo.create(complete, secrets))
        first_link = asyncio.run(link_for_newcomer(complete))

        def on_ready(registers: tuple[str, int], admin: tuple[str, int]) -> None:
            say(banner(complete, registers, admin, engines.describe(), first_link))

        return run_server(
            complete, secrets, unknown_variables=unknown_variables, revive=engines.revive, on_ready=on_ready
        )
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if engines.running:
            tell("stopping the engines ...")
        engines.stop()


def banner(
    settings: Settings,
    registers: tuple[str, int],
    admin: tuple[str, int],
    engines: Sequence[Description],
    first_link: str | None,
) -> str:
    """Return what is listening where, commands to try, and the way into the console where nobody is in yet."""
    rows = [
        ("registers", f"{registers[0]}:{registers[1]}", f"TCP{' with TLS' if settings.tls_cert_file else ''}"),
        ("console", f"{admin[0]}:{admin[1]}", console_url(settings, admin[1])),
        ("health", "", f"{_admin_url(settings, admin)}/health/ready and /metrics"),
        *((engine.name, engine.address, engine.program) for engine in engines),
    ]
    lines = ["", "Tillwire is up; Ctrl-C stops it.", ""]
    lines += [f"  {name:<12}{address:<24}{text}" for name, address, text in rows]
    lines += [f"  {'data':<12}{settings.data_dir.absolute()}", ""]
    if first_link is not None:
        lines += [
            "Come into the console by this link; it works once, for a day, and then you sign in as",
            f"{NEWCOMER} with the password and the authenticator that you choose there:",
            "",
            f"  {console_url(settings, admin[1])}{first_link}",
            "",
        ]
    lines += ["Try in another terminal:", ""]
    command = _own_name()
    lines += [
        f"  {command} till balance --card {_DEMO_CARD}",
        f"  {command} till sale --card {_DEMO_CARD} --amount 25.00 --points 5",
        f"  {command} verify",
        "",
    ]
    return "\n".join(lines)


def _admin_url(settings: Settings, admin: tuple[str, int]) -> str:
    return f"{'http' if settings.admin_tls_cert_file is None else 'https'}://{admin[0]}:{admin[1]}"


def _own_name() -> str:
    """Return the command as one would type it here."""
    program = Path(sys.argv[0])
    if program.name != "tillwire":
        return "tillwire"
    try:
        return str(program.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(program) if os.sep in sys.argv[0] else program.name


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
