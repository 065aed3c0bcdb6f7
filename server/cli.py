"""The command `tillwire`."""

import importlib.metadata
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from server.commands import admin, database, engines, moving, programme, replay, serve, settings
from server.commands.invocation import Invocation, assignments, say, tell
from server.commands.relay import relay_app
from server.commands.till import till_app
from server.errors import TRACEBACK_VARIABLE, OperatorError

EXIT_BUG = 70

app = typer.Typer(
    name="tillwire",
    help="Loyalty-card authorisation server.\n\nA setting on the command line wins over the environment TILLWIRE_..., "
    "that over the TOML file of --config or TILLWIRE_CONFIG, that over the default. `tillwire settings` lists all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (serve, engines, admin, database, programme, settings, replay, moving):
    commands.register(app)
app.add_typer(till_app, name="till")
app.add_typer(relay_app, name="relay")


def _version(asked: bool) -> None:
    if asked:
        try:
            say(f"tillwire {importlib.metadata.version('tillwire')}")
        except importlib.metadata.PackageNotFoundError:
            say("tillwire (run from its sources, not installed)")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.", metavar="FILE")] = None,
    assigned: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting; may be repeated.", metavar="NAME=VALUE")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of embedded engines and generated keys.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the sub-command."""
    given = {"data_dir": data_dir, "log_level": log_level}
    overrides = {name: value for name, value in given.items() if value is not None}
    context.obj = Invocation(config, {**assignments(assigned or []), **overrides})


def main() -> None:
    """Run the command line. A mistake or a missing thing is one sentence and an exit code, never a traceback."""
    try:
        app()
    except OperatorError as error:
        tell(f"tillwire: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort of a program for operators
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        tell(
            f"tillwire: this is a bug: {type(error).__name__}: {error}. Set {TRACEBACK_VARIABLE}=1 to see where, and "
            "please report it."
        )
        sys.exit(EXIT_BUG)


if __name__ == "__main__":
    main()
