"""`tillwire till`: a register on the command line, one command for each operation, and a prompt without one."""

import inspect
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from protocol.codes import BlockReason
from protocol.requests import (
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    EarnRequest,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReplaceRequest,
    Request,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from server.commands.invocation import invocation
from server.till import input as till_input
from server.till.desk import Desk, DeskOptions, ExitCode, Unavailable, run_once
from server.till.input import BadInput
from server.till.prompt import run_prompt

till_app = typer.Typer(
    help="A register on the command line. Without a command it asks for one after the other.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CardOption = Annotated[str, typer.Option("--card", help="13 digits, 16 digits, +phone, a track, or kind:value.")]
PointsOption = Annotated[str, typer.Option("--points", help="Points, such as 12.50.")]
AmountOption = Annotated[str, typer.Option("--amount", help="Money of the receipt, such as 25.00.")]
ReferenceOption = Annotated[str, typer.Option("--reference", help="The register's own receipt number.")]
PartialOption = Annotated[bool, typer.Option("--partial", help="Take less if there is not enough.")]
EligibleOption = Annotated[str | None, typer.Option("--eligible", help="The part of the amount that earns.")]
HoldOption = Annotated[str, typer.Option("--hold", help="The hold's request id.")]
OriginalOption = Annotated[str, typer.Option("--original", help="The request id in question.")]


class Reason(StrEnum):
    """BlockReason as it is typed."""

    other = "other"
    lost = "lost"
    stolen = "stolen"
    damaged = "damaged"
    fraud = "fraud"


# Every command takes these; they are added to its signature, so that they are written down once.
_DESK_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "host": (Annotated[str, typer.Option(help="Where the server is.")], "127.0.0.1"),
    "port": (Annotated[int | None, typer.Option(help="Its TCP port; the setting listen_port by default.")], None),
    "terminal": (
        Annotated[str | None, typer.Option(help="Terminal id; the first of terminals.toml by default.")],
        None,
    ),
    "secret_file": (Annotated[Path | None, typer.Option(help="File with the terminal's secret.")], None),
    "tls": (Annotated[bool, typer.Option("--tls", help="Speak TLS.")], False),
    "ca_file": (Annotated[Path | None, typer.Option(help="PEM file of the issuer to trust; means --tls.")], None),
    "patience": (Annotated[int, typer.Option(min=1, help="Seconds to wait for an answer.")], 10),
    "json": (Annotated[bool, typer.Option("--json", help="Print one JSON object, in minor units.")], False),
}
_REQUEST_ID_OPTION: Final = Annotated[
    str | None, typer.Option(help="UUID to use; the same one again is a retry. A random one by default.")
]


def _with_desk_options(command: Callable[..., None], own: list[inspect.Parameter]) -> Callable[..., None]:
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _DESK_OPTIONS.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = [context, *[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]]
    command.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return command


def _take_desk_options(values: dict[str, Any]) -> DeskOptions:
    settings = invocation(values.pop("context")).settings()
    given = {name: values.pop(name) for name in _DESK_OPTIONS}
    if given["port"] is None:
        given["port"] = settings.listen_port
    return DeskOptions(data_dir=settings.data_dir, **given)


def _complain(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _operation(build: Callable[..., Request]) -> Callable[..., Request]:
    """Make a command out of a function that builds a request from a desk and what was typed."""

    def command(**values: Any) -> None:
        options = _take_desk_options(values)
        typed_id = values.pop("request_id")
        try:
            request_id = None if typed_id is None else till_input.request_id(typed_id)
        except BadInput as error:
            _complain(str(error))
            raise typer.Exit(ExitCode.ERROR) from None
        raise typer.Exit(run_once(options, request_id, lambda desk: build(desk, **values), _complain))

    own = list(inspect.signature(build).parameters.values())[1:]
    own.append(
        inspect.Parameter("request_id", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_REQUEST_ID_OPTION)
    )
    till_app.command(build.__name__, help=build.__doc__)(_with_desk_options(command, own))
    return build


def _receipt(desk: Desk, amount: str, reference: str) -> Receipt:
    return Receipt(till_input.money(amount, desk.currency), desk.currency, reference)


def _eligible(desk: Desk, eligible: str | None) -> int | None:
    return None if eligible is None else till_input.money(eligible, desk.currency)


@_operation
def balance(desk: Desk, card: CardOption) -> Request:
    """Ask what is there."""
    return BalanceRequest(desk.take_id(), 0, till_input.card(card))


@_operation
def redeem(
    desk: Desk,
    card: CardOption,
    points: PointsOption,
    amount: AmountOption = "0",
    reference: ReferenceOption = "",
    partial: PartialOption = False,
) -> Request:
    """Spend points."""
    receipt = _receipt(desk, amount, reference)
    return RedeemRequest(desk.take_id(), 0, till_input.card(card), till_input.points(points), receipt, partial)


@_operation
def hold(
    desk: Desk,
    card: CardOption,
    points: PointsOption,
    amount: AmountOption = "0",
    reference: ReferenceOption = "",
    partial: PartialOption = False,
    seconds: Annotated[int, typer.Option(min=0, help="How long; 0 = the network's default.")] = 0,
) -> Request:
    """Set points aside."""
    wanted, receipt = till_input.points(points), _receipt(desk, amount, reference)
    return HoldRequest(desk.take_id(), 0, till_input.card(card), wanted, receipt, partial, seconds * 1_000)


@_operation
def capture(
    desk: Desk,
    card: CardOption,
    hold: HoldOption,
    points: PointsOption = "0",
    amount: AmountOption = "0",
    reference: ReferenceOption = "",
) -> Request:
    """Spend what a hold has set aside; --points 0 is all of it."""
    hold_id, receipt = till_input.request_id(hold), _receipt(desk, amount, reference)
    return CaptureRequest(desk.take_id(), 0, till_input.card(card), hold_id, till_input.points(points), receipt)


@_operation
def release(desk: Desk, card: CardOption, hold: HoldOption) -> Request:
    """Let held points go."""
    return ReleaseRequest(desk.take_id(), 0, till_input.card(card), till_input.request_id(hold))


@_operation
def earn(
    desk: Desk,
    card: CardOption,
    amount: AmountOption,
    reference: ReferenceOption = "",
    eligible: EligibleOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="The sale is done: record it.")] = False,
    sale_time: Annotated[str | None, typer.Option(help="ISO 8601 with time zone; now by default.")] = None,
) -> Request:
    """Give points for what was paid."""
    receipt, earning = _receipt(desk, amount, reference), _eligible(desk, eligible)
    return EarnRequest(
        desk.take_id(), 0, till_input.card(card), receipt, earning, _sale_time_ms(desk, sale_time), offline
    )


@_operation
def sale(
    desk: Desk,
    card: CardOption,
    amount: AmountOption,
    points: PointsOption = "0",
    reference: ReferenceOption = "",
    partial: PartialOption = False,
    eligible: EligibleOption = None,
) -> Request:
    """Spend and earn points of one receipt."""
    receipt, earning = _receipt(desk, amount, reference), _eligible(desk, eligible)
    return SaleRequest(desk.take_id(), 0, till_input.card(card), receipt, till_input.points(points), partial, earning)


@_operation
def refund(
    desk: Desk,
    card: CardOption,
    original: OriginalOption,
    amount: AmountOption = "0",
    reference: ReferenceOption = "",
) -> Request:
    """Take goods back; --amount 0 is all that is left of the receipt."""
    original_id, receipt = till_input.request_id(original), _receipt(desk, amount, reference)
    return RefundRequest(desk.take_id(), 0, till_input.card(card), original_id, receipt)


@_operation
def reverse(desk: Desk, card: CardOption, original: OriginalOption) -> Request:
    """Undo a request, whatever became of it."""
    return ReverseRequest(desk.take_id(), 0, till_input.card(card), till_input.request_id(original))


@_operation
def status(desk: Desk, card: CardOption, original: OriginalOption) -> Request:
    """Ask what became of a request."""
    return StatusRequest(desk.take_id(), 0, till_input.card(card), till_input.request_id(original))


@_operation
def activate(desk: Desk, card: CardOption) -> Request:
    """Let an issued card begin to work."""
    return ActivateRequest(desk.take_id(), 0, till_input.card(card))


@_operation
def block(desk: Desk, card: CardOption, reason: Annotated[Reason, typer.Option(help="Why.")] = Reason.other) -> Request:
    """Stop a card."""
    return BlockRequest(desk.take_id(), 0, till_input.card(card), BlockReason[reason.name.upper()])


@_operation
def replace(
    desk: Desk, card: CardOption, new_card: Annotated[str, typer.Option(help="The new card, as for --card.")]
) -> Request:
    """Put a new card in the place of the old one."""
    return ReplaceRequest(desk.take_id(), 0, till_input.card(card), till_input.card(new_card))


def _sale_time_ms(desk: Desk, typed: str | None) -> int:
    if typed is None:
        return desk.client.server_now_ms()
    try:
        moment = datetime.fromisoformat(typed)
    except ValueError:
        raise BadInput(f"{typed!r} is no time such as 2026-09-13T12:00:00+02:00") from None
    if moment.tzinfo is None:
        raise BadInput(f"{typed!r} names no time zone, such as +02:00 or Z")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _resolve(**values: Any) -> None:
    options = _take_desk_options(values)
    try:
        with Desk(options) as desk:
            if not desk.journal.orphans:
                _complain("Every request has its answer.")
            raise typer.Exit(desk.resolve())
    except (BadInput, Unavailable) as error:
        _complain(str(error))
        raise typer.Exit(ExitCode.ERROR) from None


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _prompt(**values: Any) -> None:
    context: typer.Context = values["context"]
    if context.invoked_subcommand is not None:
        # An option before the command is meant for it; it has the same ones.
        given = {name: values[name] for name in _DESK_OPTIONS if _is_given(context, name)}
        context.default_map = {context.invoked_subcommand: given}
        return
    options = _take_desk_options(values)
    try:
        with Desk(options) as desk:
            run_prompt(desk, sys.stdin)
    except (BadInput, Unavailable) as error:
        _complain(str(error))
        raise typer.Exit(ExitCode.ERROR) from None


till_app.command("resolve", help="Reverse or send again what earlier runs left without an answer.")(
    _with_desk_options(_resolve, [])
)
till_app.callback()(_with_desk_options(_prompt, []))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(till_app, name="till")
