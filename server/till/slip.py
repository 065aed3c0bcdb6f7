"""What the till shows: a slip for people, one JSON object for programs."""

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from protocol.answers import Answer, Balance
from protocol.codes import ErrorCode, Goodbye, Message, Outcome, StatusState
from protocol.requests import CaptureRequest, EarnRequest, HoldRequest, Receipt, RedeemRequest, Request, SaleRequest
from protocol.retry import GIVING_UP, GivingUp
from protocol.ticket import InDoubt, Refused, Rejected, Reply, Unanswered
from server.till.input import decimal, id_text, money_text

SLIP_WIDTH: Final = 52

_POINTS_WORD: Final = {
    Message.REDEEM: "Points spent",
    Message.SALE: "Points spent",
    Message.CAPTURE: "Points spent",
    Message.HOLD: "Points held",
    Message.RELEASE: "Points released",
    Message.REFUND: "Points given back",
    Message.REVERSE: "Points given back",
}
_WITH_RECEIPT: Final = (RedeemRequest, HoldRequest, CaptureRequest, EarnRequest, SaleRequest)


def outcome_name(outcome: int) -> str:
    """Return the name of an outcome, or of one that a later server made: DECLINED 4711."""
    return Outcome(outcome).name if outcome in list(Outcome) else f"DECLINED {outcome}"


def as_json(request: Request, reply: Reply) -> dict[str, Any]:
    """Return a reply for a program; points and money in minor units."""
    shown: dict[str, Any] = {
        "operation": request.op.name,
        "request_id": id_text(reply.request_id),
        "replayed": reply.replayed,
        **_answer_json(reply),
    }
    if reply.reversal_id is not None:
        shown["reversal_id"] = id_text(reply.reversal_id)
    if reply.approved and request.op is Message.BALANCE:
        shown["greeting"] = reply.greeting
    if request.op is Message.BALANCE:
        shown["provisional"] = reply.provisional
        if reply.age_ms is not None:
            shown["age_ms"] = reply.age_ms
    if reply.approved and request.op is Message.HOLD:
        shown["hold_until_ms"] = reply.hold_until_ms
    if reply.approved and request.op is Message.STATUS:
        original = reply.original
        shown["state"] = _state_name(reply.status)
        shown["original"] = None if original is None else _answer_json(original)
    return shown


def failure_json(request: Request, failure: Unanswered) -> dict[str, Any]:
    """Return why there is no reply, for a program."""
    shown: dict[str, Any] = {
        "operation": request.op.name,
        "request_id": id_text(request.request_id),
        "error": failure_name(failure),
        "text": failure_sentence(request, failure),
    }
    if isinstance(failure, InDoubt) and failure.reversal_id is not None:
        shown["reversal_id"] = id_text(failure.reversal_id)
    return shown


def failure_name(failure: Unanswered) -> str:
    """Return one word for a failure: the ERROR's, the GOODBYE's, IN_DOUBT or NO_ANSWER."""
    if isinstance(failure, Refused):
        return ErrorCode(failure.code).name if failure.code in list(ErrorCode) else f"ERROR_{failure.code}"
    if isinstance(failure, Rejected):
        return Goodbye(failure.reason).name if failure.reason in list(Goodbye) else f"GOODBYE_{failure.reason}"
    return "IN_DOUBT" if isinstance(failure, InDoubt) else "NO_ANSWER"


def failure_sentence(request: Request, failure: Unanswered) -> str:
    """Return what a person should know about a failure."""
    kept = "It is in the till's journal: `tillwire till resolve` takes it up again."
    if isinstance(failure, InDoubt):
        return f"Nobody knows whether it took effect. {kept}"
    what = f"{failure.text}." if isinstance(failure, Refused | Rejected) else "No answer."
    is_kept = GIVING_UP[request.op] is GivingUp.KEEP and not (isinstance(failure, Refused) and failure.final)
    return f"{what} Nothing happened{f' yet. {kept}' if is_kept else '.'}"


def print_reply(console: Console, request: Request, reply: Reply, network_name: str, currency: str) -> None:
    """Print the slip of a reply."""
    table = _table()
    style = "bold green" if reply.approved else "bold red"
    table.add_row(Text(request.op.name, "bold"), Text(outcome_name(reply.outcome), style))
    if reply.approved:
        _add_effect(table, request, reply, currency)
    if reply.balance is not None:
        _add_balance(table, reply.balance)
    if request.op is Message.BALANCE and reply.provisional:
        table.add_row(Text(_provisional_sentence(reply), "yellow"), "")
    if reply.approved and request.op is Message.STATUS:
        _add_status(table, reply)
    for number, line in enumerate(reply.slip):
        if number == 0:
            table.add_row("", "")
        table.add_row(Text(line), "")
    footer = id_text(reply.request_id) + (" (replay)" if reply.replayed else "")
    _print_panel(console, table, network_name, footer)


def print_failure(console: Console, request: Request, failure: Unanswered, network_name: str) -> None:
    """Print a slip that says why there is no answer."""
    table = _table()
    table.add_row(Text(request.op.name, "bold"), Text(failure_name(failure), "bold yellow"))
    table.add_row(Text(failure_sentence(request, failure)), "")
    _print_panel(console, table, network_name, id_text(request.request_id))


def _provisional_sentence(reply: Reply) -> str:
    if reply.age_ms is None:
        return "Provisional: may still change"
    minutes = reply.age_ms // 60_000
    age = f"{minutes} min" if minutes else f"{reply.age_ms // 1_000} s"
    return f"Provisional: as it was {age} ago"


def _answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "approved": answer.approved,
        "outcome": outcome_name(answer.outcome),
        "outcome_code": answer.outcome,
        "points": answer.points,
        "earned": answer.earned,
        "balance": None if answer.balance is None else answer.balance._asdict(),
        "slip": list(answer.slip),
    }


def _state_name(state: int) -> str:
    return StatusState(state).name if state in list(StatusState) else str(state)


def _table() -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    return table


def _print_panel(console: Console, table: Table, network_name: str, footer: str) -> None:
    panel = Panel(table, title=Text(network_name), subtitle=Text(footer, "dim"), box=box.ROUNDED, width=SLIP_WIDTH)
    console.print(panel)


def _add_effect(table: Table, request: Request, reply: Reply, currency: str) -> None:
    receipt: Receipt | None = request.receipt if isinstance(request, _WITH_RECEIPT) else None
    if receipt is not None and receipt.amount:
        table.add_row("Receipt", money_text(receipt.amount, receipt.currency))
    if request.op in _POINTS_WORD:
        table.add_row(_POINTS_WORD[request.op], decimal(reply.points))
    if receipt is not None and receipt.amount and request.op in {Message.SALE, Message.REDEEM, Message.CAPTURE}:
        table.add_row(Text("To pay", "bold"), Text(money_text(receipt.amount - reply.points, currency), "bold"))
    if reply.earned:
        table.add_row("Points earned" if reply.earned > 0 else "Points taken back", decimal(reply.earned))
    if request.op is Message.BALANCE and reply.greeting is not None:
        table.add_row(Text(reply.greeting, "italic"), "")


def _add_balance(table: Table, balance: Balance) -> None:
    table.add_row("Balance", decimal(balance.available))
    for word, value in (("Held", balance.held), ("Not yet spendable", balance.pending), ("Owed", balance.owed)):
        if value:
            table.add_row(word, decimal(value))
    if balance.expiring_points and balance.expiring_on:
        day = str(balance.expiring_on)
        table.add_row(f"Expiring after {day[:4]}-{day[4:6]}-{day[6:]}", decimal(balance.expiring_points))


def _add_status(table: Table, reply: Reply) -> None:
    table.add_row("State", Text(_state_name(reply.status), "bold"))
    original = reply.original
    if original is not None:
        table.add_row("Was answered", outcome_name(original.outcome))
        table.add_row("Points then", decimal(original.points))
