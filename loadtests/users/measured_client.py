"""The blocking client of the protocol, with every copy of a request and every sign-on reported to locust."""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from loadtests.installation import Population
from loadtests.users import rows
from loadtests.users.rows import Rows
from protocol.blocking import BlockingClient
from protocol.events import Welcomed
from protocol.messages import AnswerMessage, ErrorMessage, answer_frame
from protocol.register import Identity
from protocol.register import Register as RegisterOnWire
from protocol.requests import Request
from protocol.retry import GivingUp
from protocol.scram import SaltedKey
from protocol.ticket import Reply, Store, Ticket
from protocol.ticket_book import TicketBook, Timing

CONNECT: Final = "CONNECT"
CONNECT_AGAIN: Final = "CONNECT again"
_SOFTWARE: Final = "tillwire locust"
_FRAME_BYTES: Final = len(answer_frame(bytes(16), False, b""))


@dataclass(slots=True)
class _Sent:
    """When the first and the latest copy of a request were handed to the connection, in seconds."""

    first_s: float
    latest_s: float
    copies: int = 1


class MeasuredBook(TicketBook):
    """A book of tickets that reports how each copy fared; what it decides about them is its parent's.

    A copy that was answered is reported from its sending to its answer. The answer to a repetition has a row of its own
    and is reported from the sending of the first copy: that is what the customer has waited.
    """

    def __init__(
        self, timing: Timing, store: Store, dice: Callable[[], float], new_id: Callable[[], bytes], report: Rows
    ) -> None:
        super().__init__(timing, store, dice, new_id)
        self._report = report
        self._sent: dict[bytes, _Sent] = {}

    def sent(self, ticket: Ticket, now_ms: int) -> None:
        """Note that a copy was handed to the connection."""
        now_s = time.perf_counter()
        sent = self._sent.get(ticket.request.request_id)
        if sent is None:
            self._sent[ticket.request.request_id] = _Sent(now_s, now_s)
        else:
            sent.latest_s = now_s
            sent.copies += 1
        super().sent(ticket, now_ms)

    def answered(self, message: AnswerMessage, now_ms: int) -> None:
        """Report an ANSWER that is waited for."""
        ticket, sent = self._tickets.get(message.request_id), self._sent.get(message.request_id)
        if ticket is not None and sent is not None and ticket.on_its_way:
            now_s, operation = time.perf_counter(), ticket.request.op.name
            length_bytes = _FRAME_BYTES + len(message.body)
            if sent.copies == 1:
                name = rows.answer_name(operation, message.answer.outcome)
                self._report.good(name, now_s - sent.latest_s, length_bytes)
            else:
                self._report.good(f"{operation} repeated", now_s - sent.first_s, length_bytes)
        super().answered(message, now_ms)

    def refused(self, message: ErrorMessage, now_ms: int) -> None:
        """Report an ERROR that is waited for."""
        ticket = self._tickets.get(message.request_id)
        if ticket is not None and ticket.on_its_way:
            self._report.failed(ticket.request.op.name, rows.error_word(message.code))
        super().refused(message, now_ms)

    def lost(self, now_ms: int) -> None:
        """Report the copies that went without answer because the connection ended."""
        for ticket in self:
            if ticket.on_its_way:
                self._report.failed(ticket.request.op.name, rows.CONNECTION_LOST)
        super().lost(now_ms)

    def expire(self, now_ms: int) -> list[Ticket]:
        """Report the copies that nobody waits for any more."""
        forgotten = super().expire(now_ms)
        for ticket in forgotten:
            self._report.failed(ticket.request.op.name, rows.SILENCE)
        return forgotten

    def _settle(self, ticket: Ticket) -> None:
        super()._settle(ticket)
        self._sent.pop(ticket.request.request_id, None)


class _Process:
    salted: ClassVar[dict[str, SaltedKey]] = {}


class SharingRegister(RegisterOnWire):
    """A register that takes its salted key from another one of this process, if they have secret and salt in common.

    Each real register computes PBKDF2 on a processor of its own. A thousand of them computing it on one would be late
    for that reason alone. Everything else of SCRAM is done for each connection, and the server's part is the same.
    """

    def connected(self, now_ms: int) -> None:
        """Begin the handshake."""
        if self._salted is None:
            self._salted = _Process.salted.get(self._identity.secret)
        super().connected(now_ms)

    def _welcome(self, event: Welcomed, now_ms: int) -> None:
        super()._welcome(event, now_ms)
        if self._salted is not None:
            _Process.salted[self._identity.secret] = self._salted


class MeasuredClient(BlockingClient):
    """One register's client: terminal `number` of the population. `store` is its journal of open requests.

    `tls` None is plain TCP, `timing` None what SPEC.md, section 15 recommends.
    """

    def __init__(
        self,
        population: Population,
        number: int,
        store: Store,
        report: Rows,
        *,
        tls: ssl.SSLContext | None = None,
        timing: Timing | None = None,
    ) -> None:
        timing = timing or Timing()
        super().__init__(
            population.host,
            population.port,
            population.terminal(number),
            population.secret,
            tls=tls,
            timing=timing,
            store=store,
        )
        # The parent's register is not connected yet; this one reports what its book sees.
        self._register = SharingRegister(
            Identity(population.terminal(number), population.secret, _SOFTWARE),
            timing,
            MeasuredBook(timing, store, random.random, self.new_id, report),
            random=random.random,
            random_bytes=os.urandom,
            stay_connected=False,
        )
        self._report = report
        self._connecting_s = 0.0
        self._signing_on = False
        self._was_up = False

    def request_and_lose_line(self, request: Request, giving_up: GivingUp | None = None) -> Reply:
        """Send a request, lose the connection before its answer, and do what a register does then."""
        ticket = self._sent_into_silence(request, giving_up)
        self._run([ticket])
        return ticket.outcome()

    def request_and_lose_power(self, request: Request) -> None:
        """Send a request and end for good before its answer, without a word. Only the store knows of it then."""
        self._sent_into_silence(request, None)
        self._closed = True

    def _sent_into_silence(self, request: Request, giving_up: GivingUp | None) -> Ticket:
        ticket = self._submit(request, giving_up, None)
        self._register.tick(self._now_ms())
        self._flush()
        self._hang_up()
        return ticket

    def _connect(self) -> None:
        self._connecting_s = time.perf_counter()
        self._signing_on = True
        super()._connect()
        if self._socket is None:
            self._sign_on_failed(rows.NOT_REACHED)

    def _receive(self, wait_s: float) -> None:
        super()._receive(wait_s)
        if self._signing_on and self.connected:
            name = CONNECT_AGAIN if self._was_up else CONNECT
            self._signing_on, self._was_up = False, True
            self._report.good(name, time.perf_counter() - self._connecting_s, 0)

    def _hang_up(self) -> None:
        if self._signing_on and self._socket is not None and not self._closed:
            rejected = self._register.unwanted is not None
            self._sign_on_failed(rows.REJECTED if rejected else rows.HANDSHAKE_FAILED)
        super()._hang_up()

    def _sign_on_failed(self, word: str) -> None:
        self._signing_on = False
        name = CONNECT_AGAIN if self._was_up else CONNECT
        self._report.failed(name, word)
