"""`tillwire relay`: a store's own computer between its registers and headquarters."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from server.commands.invocation import Invocation, JsonOption, invocation, say, say_json

relay_app = typer.Typer(
    help="A store's own computer between its registers and headquarters (docs/relay.md).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_CONFLICTS_SHOWN = 100
_CLOCKS_AGREE_MS = 100
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


def _loaded(given: Invocation, **options: Any) -> Any:
    from server.relay.settings import load_relay

    typed = {name: value for name, value in options.items() if value is not None}
    return load_relay(given.config, {**given.overrides, **typed})


@relay_app.command()
def run(
    context: typer.Context,
    listen_host: Annotated[str | None, typer.Option(help="Address for registers.")] = None,
    listen_port: Annotated[int | None, typer.Option(help="TCP port for registers; 0 takes a free one.")] = None,
) -> None:
    """Serve the registers of the store until SIGTERM; what is approved without headquarters is on the disk before."""
    from server.observation.logs import configure_logging, get_log
    from server.relay.relay import serve
    from server.workers.open_files import allow_connections

    loaded = _loaded(invocation(context), listen_host=listen_host, listen_port=listen_port)
    settings = loaded.settings
    configure_logging(settings.log_level, settings.log_format)
    if loaded.unknown_variables:
        get_log("relay").warning(
            "no settings of these names, so they have no effect", variables=loaded.unknown_variables
        )
    allow_connections(settings.connections_max)
    serve(settings)


@relay_app.command()
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show queue, line, allowances, conflicts and disk. Exits with 1 if something is wrong for too long."""
    from server.relay.status import relay_status

    found = relay_status(_loaded(invocation(context)).settings, time.time_ns() // 1_000_000)
    if as_json:
        say_json(found)
    else:
        for line in _lines(found):
            say(line)
    raise typer.Exit(0 if found["good"] else 1)


@relay_app.command()
def conflicts(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="How many at most, the latest first.")] = _CONFLICTS_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """List what was approved off line and declined by headquarters. Headquarters' operators have the same list."""
    from protocol.codes import ErrorCode, Message, Outcome
    from server.relay.store_status import read_conflicts

    found: list[dict[str, Any]] = [
        {
            "request_id": each.request_id.hex(),
            "terminal": each.terminal,
            "operation": Message(each.op).name,
            "card": each.masked,
            "points": each.points,
            "amount": each.amount,
            "currency": each.currency,
            "reference": each.reference,
            "sale_time": _time(each.sale_ms),
            "answered": _time(each.answered_ms),
            "reason": _name(Outcome, each.outcome) if each.error is None else _name(ErrorCode, each.error),
        }
        for each in read_conflicts(_loaded(invocation(context)).settings.data_dir, count)
    ]
    if as_json:
        say_json({"conflicts": found})
        return
    if not found:
        say("no conflicts")
    for each in found:
        say(
            f"{each['sale_time']}  {each['terminal']}  {each['operation']}  card {each['card']}"
            f"{_sums(each['points'], each['amount'], each['currency'])}"
            f"{'  receipt ' + each['reference'] if each['reference'] else ''}: {each['reason']}"
        )


def _lines(found: dict[str, Any]) -> list[str]:
    age = found["oldest_age_ms"]
    waiting = f"{found['queued']} waiting" + ("" if age is None else f", the oldest for {_duration(age)}")
    since = "" if found["line_for_ms"] is None else f" for {_duration(found['line_for_ms'])}"
    reason = f" ({found['line_reason']})" if found["line_reason"] else ""
    return [
        f"relay       {found['relay'] or '-'}, {'running' if found['running'] else 'not running'}",
        f"line        {found['line']}{since}{reason}",
        f"queue       {waiting}",
        f"conflicts   {found['conflicts']}",
        f"allowances  {found['allowances']} ready to be spent off line",
        f"registers   {found['registers']} connected",
        f"clock       {_clock(found['clock_ahead_ms'])}",
        f"disk        {found['disk_free_bytes'] // 2**20} MiB free",
        *[f"ALARM       {alarm}" for alarm in found["alarms"]],
    ]


def _clock(ahead_ms: int | None) -> str:
    if ahead_ms is None:
        return "headquarters' time is not known"
    if abs(ahead_ms) < _CLOCKS_AGREE_MS:
        return "as at headquarters"
    return f"{abs(ahead_ms) / 1_000:.1f} s {'behind' if ahead_ms > 0 else 'ahead of'} headquarters"


def _sums(points: int, amount: int, currency: str) -> str:
    from server.till.input import decimal, money_text

    parts = [f"points {decimal(points)}"] if points else []
    if currency:
        parts.append(f"amount {money_text(amount, currency)}")
    return "".join(f"  {part}" for part in parts)


def _duration(ms: int) -> str:
    seconds = ms // 1_000
    for size, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="seconds")


def _name(codes: Any, value: int | None) -> str:
    try:
        return str(codes(value).name)
    except ValueError:
        return str(value)
