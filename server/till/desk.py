"""The till on the command line: one terminal, its journal, one connection, and where the slips go."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson
from rich.console import Console

from protocol.blocking import BlockingClient
from protocol.requests import Request, ReverseRequest
from protocol.retry import GIVING_UP, GivingUp, as_advice
from protocol.session import Profile
from protocol.ticket import Rejected, Reply, Unanswered
from protocol.ticket_book import Timing
from server.till.input import BadInput, terminal
from server.till.journal import Open, TillJournal
from server.till.slip import as_json, failure_json, print_failure, print_reply

SOFTWARE: Final = "tillwire till"


class ExitCode(IntEnum):
    """How a command ends."""

    APPROVED = 0
    DECLINED = 1
    ERROR = 2


class Unavailable(Exception):  # noqa: N818 (says what is the matter)
    """The server cannot be reached or does not want this terminal; the sentence says which."""


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """What every till command takes; `patience` is in seconds."""

    data_dir: Path
    host: str
    port: int
    terminal: str | None
    secret_file: Path | None
    tls: bool
    ca_file: Path | None
    patience: int
    json: bool


class Desk:
    """One run of the till. Use it by `with`; raises BadInput when it does not know who it is."""

    def __init__(self, options: DeskOptions, request_id: bytes | None = None) -> None:
        self.console = Console(highlight=False)
        self.options = options
        self._request_id = request_id
        folder = options.data_dir
        who = terminal(folder, options.terminal, options.secret_file)
        self.journal = TillJournal(folder, who.terminal_id)
        self.terminal_id = who.terminal_id
        patience_ms = options.patience * 1_000
        self._timing = Timing(patience_ms=patience_ms, reversal_patience_ms=patience_ms)
        self._patience_ms = patience_ms
        self._secret = who.secret
        self.client = self._new_client()

    def __enter__(self) -> Self:
        self.journal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.journal.__exit__(kind, error, trace)

    def _new_client(self) -> BlockingClient:
        try:
            return BlockingClient(
                self.options.host,
                self.options.port,
                self.terminal_id,
                self._secret,
                tls=_tls(self.options),
                software=SOFTWARE,
                timing=self._timing,
                store=self.journal,
            )
        except OSError as error:
            raise BadInput(f"TLS cannot be set up: {error}") from None

    def profile(self) -> Profile:
        """Return what the server says about this terminal; connects if need be. Raises Unavailable."""
        known = self.client.profile
        if known is not None:
            return known
        try:
            profile = self.client.connect(self._patience_ms)
        except Rejected as error:
            raise Unavailable(f"{self.terminal_id} is not wanted at {self._where()}: {error.text}") from None
        if profile is None:
            raise Unavailable(f"no server at {self._where()}")
        return profile

    @property
    def currency(self) -> str:
        """The network's currency. Raises Unavailable."""
        return self.profile().currency

    def take_id(self) -> bytes:
        """Return the id for the next request: the one given on the command line, once, then random ones."""
        given, self._request_id = self._request_id, None
        return given or self.client.new_id()

    def ask(self, request: Request) -> Reply | None:
        """Send a request and show its reply; None when there is none."""
        try:
            reply = self.client.request(request)
        except Unanswered as failure:
            self._show_failure(request, failure)
            if isinstance(failure, Rejected):
                # A client that is not wanted stays away for good. Each command is a person's, who may have called the
                # operator meanwhile.
                self.client.close()
                self.client = self._new_client()
            return None
        profile = self.client.profile
        if self.options.json:
            self._print_json(as_json(request, reply))
        else:
            network, currency = ("", "") if profile is None else (profile.network_name, profile.currency)
            print_reply(self.console, request, reply, network, currency)
        return reply

    def resolve(self) -> ExitCode:
        """Reverse every orphan, or send it again where that is the rule (SPEC.md, section 14)."""
        result = ExitCode.APPROVED
        for orphan in tuple(self.journal.orphans):
            if orphan.terminal_id != self.terminal_id:
                Console(stderr=True).print(f"A request of terminal {orphan.terminal_id} waits for that terminal.")
                result = ExitCode.ERROR
            elif self._resolve(orphan) is None:
                result = ExitCode.ERROR
            else:
                self.journal.orphans.remove(orphan)
        return result

    def _resolve(self, orphan: Open) -> Reply | None:
        request = as_advice(orphan.request)
        if GIVING_UP[request.op] is GivingUp.REVERSE:
            reversal = ReverseRequest(self.client.new_id(), 0, request.card, request.request_id)
            self.journal.replace(request, reversal)
            request = reversal
        return self.ask(request)

    def _show_failure(self, request: Request, failure: Unanswered) -> None:
        if self.options.json:
            self._print_json(failure_json(request, failure))
        else:
            profile = self.client.profile
            print_failure(self.console, request, failure, "" if profile is None else profile.network_name)

    def _print_json(self, shown: dict[str, object]) -> None:
        self.console.print(orjson.dumps(shown).decode(), soft_wrap=True, markup=False, emoji=False)

    def _where(self) -> str:
        return f"{self.options.host}:{self.options.port}"


def exit_code(reply: Reply | None) -> ExitCode:
    """Return how a command ends that got this reply."""
    if reply is None:
        return ExitCode.ERROR
    return ExitCode.APPROVED if reply.approved else ExitCode.DECLINED


def run_once(
    options: DeskOptions, request_id: bytes | None, build: Callable[[Desk], Request], complain: Callable[[str], None]
) -> ExitCode:
    """Build one request, send it, show the reply; `complain` gets sentences for the standard error output."""
    try:
        with Desk(options, request_id) as desk:
            if desk.journal.orphans:
                complain(
                    f"{len(desk.journal.orphans)} earlier request(s) without an answer: run `tillwire till resolve`."
                )
            return exit_code(desk.ask(build(desk)))
    except (BadInput, Unavailable) as error:
        complain(str(error))
        return ExitCode.ERROR


def _tls(options: DeskOptions) -> ssl.SSLContext | None:
    if not options.tls and options.ca_file is None:
        return None
    return ssl.create_default_context(cafile=None if options.ca_file is None else str(options.ca_file))
