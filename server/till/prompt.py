"""The till's prompt: `card 2000000000015`, `sale 25.00 spend 5`, `undo`; every answer is printed as a slip."""

import shlex
import sys
from collections.abc import Callable
from typing import Final, TextIO

from protocol.codes import BlockReason, Message
from protocol.requests import (
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
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
from protocol.ticket import Reply
from server.till import input as till_input
from server.till.desk import Desk, Unavailable
from server.till.input import BadInput

HELP: Final = """\
card CARD                 take a card and ask its balance
sale AMOUNT [spend POINTS|all]
                          spend and earn on one receipt
redeem POINTS [of AMOUNT] spend points
hold POINTS [of AMOUNT]   set points aside
capture [POINTS]          spend the last hold, all or a part
release                   let the last hold go
earn AMOUNT               points for what was paid
refund [AMOUNT]           goods of the last receipt came back
undo                      reverse the last request
status [ID]               what became of the last request
balance, activate, block [REASON], replace CARD
resolve                   end earlier doubts
help, quit
"""
_REVERSIBLE: Final = frozenset(
    {Message.REDEEM, Message.HOLD, Message.CAPTURE, Message.EARN, Message.SALE, Message.REFUND}
)
_REFUNDABLE: Final = frozenset({Message.REDEEM, Message.CAPTURE, Message.EARN, Message.SALE})


class Prompt:
    """What the cashier has before her: a card, the last receipt, the last hold, and what may be undone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._card: Card | None = None
        self._done: list[Request] = []
        self._last_id: bytes | None = None
        self._receipts = 0
        self._commands: dict[str, Callable[[list[str]], Request]] = {
            "activate": self._activate,
            "balance": self._balance,
            "block": self._block,
            "capture": self._capture,
            "card": self._take_card,
            "earn": self._earn,
            "hold": self._hold,
            "redeem": self._redeem,
            "refund": self._refund,
            "release": self._release,
            "replace": self._replace,
            "sale": self._sale,
            "status": self._status,
            "undo": self._undo,
        }

    def obey(self, line: str) -> bool:
        """Do what a line says; return False when it says to quit. Raises BadInput and Unavailable."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise BadInput(f"the line cannot be read: {error}") from None
        if not words:
            return True
        name, arguments = words[0].lower(), words[1:]
        if name in {"quit", "exit"}:
            return False
        if name in {"help", "?"}:
            self._desk.console.print(HELP, end="", markup=False)
        elif name == "resolve":
            self._desk.resolve()
        elif name in self._commands:
            self._ask(self._commands[name](arguments))
        else:
            raise BadInput(f"{name!r} is no command; type help")
        return True

    def _ask(self, request: Request) -> None:
        reply = self._desk.ask(request)
        if request.op not in {Message.BALANCE, Message.STATUS}:
            self._last_id = request.request_id
        if reply is not None and reply.approved:
            self._remember(request, reply)

    def _remember(self, request: Request, reply: Reply) -> None:
        if request.op in _REVERSIBLE:
            self._done.append(request)
        elif isinstance(request, ReverseRequest) and reply.approved:
            self._done = [done for done in self._done if done.request_id != request.original_id]
        elif isinstance(request, ReplaceRequest):
            self._card = request.new_card

    @property
    def _shown(self) -> Card:
        if self._card is None:
            raise BadInput("no card yet: card 2000000000015")
        return self._card

    def _receipt(self, amount: str) -> Receipt:
        self._receipts += 1
        currency = self._desk.currency
        return Receipt(till_input.money(amount, currency), currency, f"till-{self._receipts}")

    def _last(self, ops: frozenset[Message], what: str) -> Request:
        for request in reversed(self._done):
            if request.op in ops:
                return request
        raise BadInput(f"there is no {what} yet")

    def _take_card(self, words: list[str]) -> Request:
        self._card = till_input.card(_one(words, "card CARD"))
        return self._balance([])

    def _balance(self, _: list[str]) -> Request:
        return BalanceRequest(self._desk.take_id(), 0, self._shown)

    def _sale(self, words: list[str]) -> Request:
        amount, spend = _pair(words, "spend", "sale AMOUNT [spend POINTS|all]")
        receipt = self._receipt(amount)
        everything = spend == "all"
        points = receipt.amount if everything else till_input.points(spend or "0")
        return SaleRequest(self._desk.take_id(), 0, self._shown, receipt, points, everything)

    def _redeem(self, words: list[str]) -> Request:
        points, amount = _pair(words, "of", "redeem POINTS [of AMOUNT]")
        receipt = self._receipt(amount or "0")
        return RedeemRequest(self._desk.take_id(), 0, self._shown, till_input.points(points), receipt)

    def _hold(self, words: list[str]) -> Request:
        points, amount = _pair(words, "of", "hold POINTS [of AMOUNT]")
        receipt = self._receipt(amount or "0")
        return HoldRequest(self._desk.take_id(), 0, self._shown, till_input.points(points), receipt)

    def _capture(self, words: list[str]) -> Request:
        hold = self._last(frozenset({Message.HOLD}), "hold")
        points = till_input.points(_one(words, "capture [POINTS]")) if words else 0
        receipt = hold.receipt if isinstance(hold, HoldRequest) else self._receipt("0")
        return CaptureRequest(self._desk.take_id(), 0, self._shown, hold.request_id, points, receipt)

    def _release(self, _: list[str]) -> Request:
        hold = self._last(frozenset({Message.HOLD}), "hold")
        return ReleaseRequest(self._desk.take_id(), 0, self._shown, hold.request_id)

    def _earn(self, words: list[str]) -> Request:
        receipt = self._receipt(_one(words, "earn AMOUNT"))
        now_ms = self._desk.client.server_now_ms()
        return EarnRequest(self._desk.take_id(), 0, self._shown, receipt, None, now_ms)

    def _refund(self, words: list[str]) -> Request:
        original = self._last(_REFUNDABLE, "receipt")
        receipt = self._receipt(_one(words, "refund [AMOUNT]") if words else "0")
        return RefundRequest(self._desk.take_id(), 0, self._shown, original.request_id, receipt)

    def _undo(self, _: list[str]) -> Request:
        last = self._last(_REVERSIBLE, "request to undo")
        return ReverseRequest(self._desk.take_id(), 0, last.card, last.request_id)

    def _status(self, words: list[str]) -> Request:
        wanted = till_input.request_id(_one(words, "status [ID]")) if words else self._last_id
        if wanted is None:
            raise BadInput("there is no request yet")
        return StatusRequest(self._desk.take_id(), 0, self._shown, wanted)

    def _activate(self, _: list[str]) -> Request:
        return ActivateRequest(self._desk.take_id(), 0, self._shown)

    def _block(self, words: list[str]) -> Request:
        name = _one(words, "block [REASON]").upper() if words else BlockReason.OTHER.name
        if name not in BlockReason.__members__:
            raise BadInput(f"a reason is one of {', '.join(reason.name.lower() for reason in BlockReason)}")
        return BlockRequest(self._desk.take_id(), 0, self._shown, BlockReason[name])

    def _replace(self, words: list[str]) -> Request:
        new_card = till_input.card(_one(words, "replace CARD"))
        return ReplaceRequest(self._desk.take_id(), 0, self._shown, new_card)


def run_prompt(desk: Desk, lines: TextIO) -> None:
    """Obey line after line until `quit` or the end of input. Raises Unavailable when there is no server at first."""
    profile = desk.profile()
    desk.console.print(
        f"{profile.network_name}, terminal {desk.terminal_id}. Type help for the commands.", markup=False
    )
    if desk.journal.orphans:
        _offer_to_resolve(desk, lines)
    prompt = Prompt(desk)
    while True:
        line = _read(desk, lines, "till> ")
        try:
            if line is None or not prompt.obey(line):
                return
        except (BadInput, Unavailable) as error:
            desk.console.print(str(error), style="yellow", markup=False)


def _offer_to_resolve(desk: Desk, lines: TextIO) -> None:
    answer = _read(
        desk, lines, f"{len(desk.journal.orphans)} earlier request(s) without an answer. Resolve now? [Y/n] "
    )
    if answer is not None and answer.strip().lower() in {"", "y", "yes"}:
        desk.resolve()


def _read(desk: Desk, lines: TextIO, question: str) -> str | None:
    try:
        if lines is sys.stdin and lines.isatty():
            return input(question)
        line = lines.readline()
    except (EOFError, KeyboardInterrupt):
        desk.console.print()
        return None
    return line or None


def _one(words: list[str], usage: str) -> str:
    if len(words) != 1:
        raise BadInput(f"usage: {usage}")
    return words[0]


def _pair(words: list[str], between: str, usage: str) -> tuple[str, str]:
    match words:
        case [first]:
            return first, ""
        case [first, word, second] if word.lower() == between:
            return first, second
    raise BadInput(f"usage: {usage}")
