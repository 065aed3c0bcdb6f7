"""`tillwire replay`: a real year of a grocery chain through a server of its own."""

from pathlib import Path
from typing import Annotated

import typer

from server.commands.invocation import invocation, tell
from server.errors import UsageError

EXIT_WRONG = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    context: typer.Context,
    weeks: Annotated[
        str | None, typer.Option(help="A part of the year by the data set's weeks, 1-53.", metavar="A-B")
    ] = None,
    earn: Annotated[str, typer.Option(help="Percentage of what is left to pay that is earned as points.")] = "5",
    max_share: Annotated[str, typer.Option(help="Percentage of a basket that points may pay for.")] = "30",
    min_spend: Annotated[int, typer.Option(min=0, help="With fewer minor points available none are spent.")] = 500,
    workers: Annotated[int | None, typer.Option(help="Worker processes of the server.")] = None,
    connections_per_store: Annotated[int, typer.Option(min=1, max=64, help="Tills, each with its connection.")] = 1,
    in_flight: Annotated[int, typer.Option(min=1, max=2_500, help="Baskets under way at once.")] = 64,
    folder: Annotated[Path, typer.Option(help="Folder of the replay's engines; emptied at the start.")] = Path(
        "build/replay"
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.", metavar="FILE")] = None,
) -> None:
    """Send the sales of The Complete Journey through a server of its own and prove every point.

    Starts its own PostgreSQL and Valkey on free ports in a folder of its own; what else is running is left alone. Exits
    with 1 when an answer was wrong or the books are not clean.
    """
    from server.replay.group import require_group

    require_group()

    from server.replay.baskets import Weeks, read_baskets
    from server.replay.plan import Plan, basis_points
    from server.replay.run import Options
    from server.replay.run import replay as run

    part = None if weeks is None else Weeks.parse(weeks)
    plan = Plan(basis_points(earn, "--earn"), basis_points(max_share, "--max-share"), min_spend)
    settings = invocation(context).settings(workers=workers, log_level=_quiet(context))
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UsageError(f"--json: there is no folder {json_file.absolute().parent}")
    tell("reading the sales ...")
    baskets = read_baskets(part)
    report = run(baskets, settings, Options(plan, folder, connections_per_store, in_flight))
    if json_file is not None:
        report.write(json_file)
    report.show()
    for fault in report.faults:
        tell(f"WRONG: {fault}")
    raise typer.Exit(EXIT_WRONG if report.faults else 0)


def _quiet(context: typer.Context) -> str | None:
    """Return the least level to log: beside a progress bar only what is wrong, unless the operator asks for more."""
    return "warning" if invocation(context).load().origins["log_level"] == "default" else None
