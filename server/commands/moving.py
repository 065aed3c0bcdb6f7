"""`tillwire import` and `tillwire export`: moving in from another system, and out again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from server.commands.invocation import JsonOption, invocation, required_url, say, say_json
from server.errors import OperatorError

if TYPE_CHECKING:
    from server.moving.report import Report

EXIT_NOT_WHOLE = 1
# Of all processes of the host that the kernel could end when memory is short, this one can be run again.
_OOM_SCORE = "900"

import_app = typer.Typer(no_args_is_help=True, help="Import members, cards or balances from a CSV or XLSX file.")

File = Annotated[Path, typer.Argument(help="CSV or XLSX file whose first row names the columns.")]
MappingOption = Annotated[Path | None, typer.Option("--mapping", help="TOML file that says which column is what.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, change nothing.")]
RejectOption = Annotated[
    Path | None, typer.Option("--reject", help="CSV file for the rows that were not taken; default FILE.rejected.csv.")
]
Delimiter = Annotated[str | None, typer.Option(help="comma, semicolon, tab or bar; found out if not given.")]
Encoding = Annotated[str | None, typer.Option(help="Such as utf-8 or cp1251; found out if not given.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet of a workbook; the first if not given.")]
Source = Annotated[str, typer.Option(help="Name of the old system, where ids of several ones could be the same.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when any row was rejected.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(import_app, name="import")
    app.command()(export)


def _importer(kind: str, sentence: str) -> Callable[..., None]:
    def command(  # noqa: PLR0917 - typer makes an option of each
        context: typer.Context,
        file: File,
        mapping: MappingOption = None,
        dry_run: DryRun = False,
        reject: RejectOption = None,
        delimiter: Delimiter = None,
        encoding: Encoding = None,
        sheet: Sheet = None,
        source: Source = "",
        strict: Strict = False,
        as_json: JsonOption = False,
    ) -> None:
        from server.moving.columns import Kind
        from server.moving.importing import Wanted

        _run(
            context,
            Wanted(
                Kind(kind), file, mapping=mapping, reject=reject, encoding=encoding, delimiter=delimiter, sheet=sheet,
                source=source, dry_run=dry_run,
            ),
            strict=strict,
            as_json=as_json,
        )  # fmt: skip

    command.__doc__ = sentence
    return command


for _kind, _sentence in (
    ("members", "Import members with their personal data: one row for each, with the id of the old system."),
    ("cards", "Import cards, each with the id of its member, or of nobody yet."),
    ("balances", "Import points as opening balances: one row for each lot, by the member's id or a card."),
):
    import_app.command(_kind)(_importer(_kind, _sentence))


def _run(context: typer.Context, wanted: object, *, strict: bool, as_json: bool) -> None:
    from server.moving.importing import Wanted, prepare, run
    from server.secrets import load_secrets

    assert isinstance(wanted, Wanted)  # noqa: S101 - it is imported when it is needed
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, "ascii")
    settings = invocation(context).attached()
    url, secrets = required_url(settings, "postgres_url"), load_secrets(settings)
    prepared = prepare(wanted)
    if wanted.dry_run and not as_json:
        _say_columns(prepared.report)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _progress(quiet=as_json) as progress:
            report = run(wanted, prepared, url, secrets, progress)
    except KeyboardInterrupt:
        raise OperatorError("interrupted; what was imported stays: run the same again to go on") from None
    if as_json:
        say_json(report.as_json())
    else:
        _say(report)
    if not report.agrees or (strict and report.rejected):
        raise typer.Exit(EXIT_NOT_WHOLE)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("rows", total=None)
        yield lambda done: bar.update(task, completed=done)


def _say_columns(report: Report) -> None:
    say(f"{report.file}: {report.description}")
    width = max(len(column) for column, _ in report.columns)
    for column, used_as in report.columns:
        say(f"  {column.ljust(width)}  {used_as}")


def _say(report: Report) -> None:
    if not report.dry_run:
        say(f"{report.file}: {report.description}")
    table = Table(title="What would become of it" if report.dry_run else "What became of it", title_justify="left")
    table.add_column("")
    table.add_column("rows", justify="right")
    points = report.kind == "balances"
    if points:
        table.add_column("points", justify="right")
    lines = [
        ("in the file", report.rows, report.points_in_file),
        ("imported", report.imported, report.points_imported),
        ("already there", report.already, report.points_already),
        ("rejected", report.rejected, report.points_rejected),
    ]
    if not report.dry_run:
        lines.append(("taken, as PostgreSQL counts", report.counted.found, report.counted.points_found))
    for name, rows, sum_of in lines:
        table.add_row(name, f"{rows:,}", *([_points(sum_of)] if points else []))
    Console(file=sys.stdout, width=100).print(table)
    _say_rejects(report)
    if not report.agrees:
        say("THE TOTALS DO NOT AGREE")
    elif not report.dry_run:
        beside = "" if not report.rejected else " beside those rejected, which wait in their file"
        say("the totals agree: not one row" + (" and not one point" if points else "") + f" lost{beside}")


def _say_rejects(report: Report) -> None:
    for reject in report.first_rejects:
        where = f", column {reject['column']}" if reject["column"] else ""
        say(f"line {reject['line']}{where}: {'conflict: ' if reject['conflict'] else ''}{reject['reason']}")
    if report.rejected > len(report.first_rejects):
        say(f"... and {report.rejected - len(report.first_rejects):,} more; in all:")
        for reason, rows in sorted(report.reasons.items(), key=lambda one: -one[1]):
            say(f"  {rows:7,}  {reason}")
    if report.rows_with_unreadable_points:
        say(f"of {report.rows_with_unreadable_points:,} rejected rows the points cannot be read; they are in no sum")
    if report.reject_file is not None:
        say(f"rejected rows are in {report.reject_file}")


def _points(minor: int) -> str:
    return f"{minor // 100:,}.{minor % 100:02}"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def export(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="New folder for the files.")] = Path("tillwire-export"),
    personal: Annotated[
        bool, typer.Option("--personal", help="With personal data in clear; this is noted in the audit log.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write everything into CSV files, from one moment, for leaving or for looking: see the manifest in the folder."""
    from server.moving.exporting import export_all
    from server.secrets import load_secrets

    settings = invocation(context).attached()
    url, secrets = required_url(settings, "postgres_url"), load_secrets(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    with _progress(quiet=as_json) as progress:
        manifest = export_all(url, secrets.personal_key, output, progress, personal=personal)
    if as_json:
        say_json(asdict(manifest))
        return
    for name, one in manifest.files.items():
        say(f"{name}: {one['rows']:,} rows")
    say(f"points {_points(manifest.sums['balance'])} in {manifest.sums['accounts']:,} accounts")
