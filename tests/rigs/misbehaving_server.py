"""A small real server on the sans-I/O connection: it drops answers, cuts lines, says BUSY, drains or falls silent."""

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol import scram
from protocol.answers import Balance, balance_detail, encode_body
from protocol.codes import ErrorCode, Message, Outcome
from protocol.connection import ServerConnection
from protocol.events import Authenticated, HelloReceived, PingReceived, RequestReceived
from protocol.requests import Request
from protocol.session import Limits, Profile
from protocol.steady_clock import SteadyClock

SECRET = "a secret of the test"
LIMITS = Limits(65_536, 64, 20_000, 60_000, 5_000, 30_000)
PROFILE = Profile("Demo Grocery", "EUR", (16, 17, 24))
BODY = encode_body(Outcome.APPROVED, 500, 0, Balance(750, 0, 0, 0, 0, 0), ["Spent 5.00 points"])
DETAILED = encode_body(Outcome.APPROVED, 0, 0, Balance(750, 0, 0, 0, 0, 0), (), balance_detail("Anna"))

Behaviour = Callable[["Till", Request], None]


@dataclass
class Till:
    """One connection of the server: the socket and the sans-I/O half."""

    server: "MisbehavingServer"
    line: socket.socket
    connection: ServerConnection
    number: int
    silent: bool = False

    def approve(self, request: Request) -> None:
        seen = self.server.effects
        replayed = request.request_id in seen
        seen.setdefault(request.request_id, request)
        body = DETAILED if request.op is Message.BALANCE else BODY
        self.connection.send_answer(request.request_id, replayed, body)

    def take_effect_without_answer(self, request: Request) -> None:
        self.server.effects.setdefault(request.request_id, request)

    def refuse(self, request: Request, code: ErrorCode, retry_after_ms: int = 0) -> None:
        self.connection.send_error(request.request_id, code, "because", retry_after_ms)

    def cut_in_the_middle_of_the_answer(self, request: Request) -> None:
        self.approve(request)
        data = self.connection.data_to_send()
        self.line.sendall(data[: len(data) // 2])
        self.hang_up()

    def hang_up(self) -> None:
        self.line.shutdown(socket.SHUT_RDWR)


@dataclass
class MisbehavingServer:
    """Accepts connections in a thread each; `script` says what to do with the first, second … request that arrives."""

    script: list[Behaviour] = field(default_factory=list)
    limits: Limits = LIMITS
    secret: str = SECRET
    greeting: Callable[[Till], bool] = lambda _: True
    requests: list[Request] = field(default_factory=list)
    pings: int = 0
    effects: dict[bytes, Request] = field(default_factory=dict)
    connections: int = 0
    tills: list[Till] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._credentials = scram.credentials(self.secret, b"salt of the test", 4_096)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for till in self.tills:
            till.line.close() if till.silent else _shut(till.line)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        assert self.errors == []

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                till = Till(self, line, ServerConnection(0), self.connections)
                self.tills.append(till)
            self._threads.append(threading.Thread(target=self._serve, args=[till], daemon=True))
            self._threads[-1].start()

    def _serve(self, till: Till) -> None:
        try:
            if self.tls is not None:
                till.line = self.tls.wrap_socket(till.line, server_side=True)
            while not till.connection.closed:
                data = till.line.recv(65_536)
                if not data:
                    break
                with self._lock:
                    for event in till.connection.receive_data(data, 1):
                        self._happen(till, event)
                    if not till.silent:
                        till.line.sendall(till.connection.data_to_send())
        except OSError:
            pass
        except BaseException as error:  # noqa: BLE001 (told to the test by close)
            self.errors.append(error)
        finally:
            if not till.silent:
                till.line.close()

    def _happen(self, till: Till, event: object) -> None:
        match event:
            case HelloReceived():
                till.connection.challenge(self._credentials, "nonce of the server".replace(" ", ""))
            case Authenticated():
                if self.greeting(till):
                    till.connection.welcome(SteadyClock()() + 60_000, self.limits, PROFILE)
            case PingReceived():
                self.pings += 1
            case RequestReceived(request):
                self.requests.append(request)
                behave = self.script.pop(0) if self.script else Till.approve
                behave(till, request)


def _shut(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:
        line.close()
