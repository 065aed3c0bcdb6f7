"""What locust's statistics say of the admin API: routes, problems by their type, and repetitions that must be alike."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loadtests.users.office_client import OfficeClient
from loadtests.users.rows import HTTP, Rows

ROUTE = "/v1/accounts/{account_id}"
#: What an office says: status, media type, body; None when it hangs up instead.
Said = tuple[int, str, bytes] | None


class Office:
    """An HTTP server that says what the test wants, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.says: list[Said] = []
        #: Hang up after each answer without announcing it, as a server does that has waited long enough.
        self.hangs_up = False
        office = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                office.asked.append((self.command, self.path, headers, body))
                said = office.says.pop(0)
                self.close_connection = said is None or office.hangs_up
                if said is not None:
                    self.send_response(said[0])
                    self.send_header("content-type", said[1])
                    self.send_header("content-length", str(len(said[2])))
                    self.end_headers()
                    self.wfile.write(said[2])

            do_POST = do_GET  # noqa: N815 (the library's own way)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def good(status: int = 200, **body: object) -> Said:
    return status, "application/json", json.dumps(body).encode()


def problem(status: int, kind: str) -> Said:
    return status, "application/problem+json", json.dumps({"type": f"/problems/{kind}", "status": status}).encode()


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()
    yield office
    office.close()


Heard = list[tuple[str, str]]


@pytest.fixture
def heard() -> Heard:
    """Names and failures, empty if it was none."""
    return []


@pytest.fixture
def client(office: Office, heard: Heard) -> Iterator[OfficeClient]:
    def fire(**told: Any) -> None:
        heard.append((told["name"], repr(told["exception"]) if told["exception"] else ""))

    client = OfficeClient(f"http://127.0.0.1:{office.server.server_port}", "tw_main", Rows(fire, HTTP))
    yield client
    client.close()


def test_a_row_is_a_route_and_the_address_has_the_ids(office: Office, client: OfficeClient, heard: Heard) -> None:
    office.says = [good(account_id=7), good()]
    told = client.get(f"{ROUTE}/entries", query={"limit": 2}, account_id=7)
    assert told is not None
    assert told.body == {"account_id": 7}
    client.get("/v1/me", token="twm_other")
    (method, path, headers, _), (_, _, others, _) = office.asked
    assert (method, path, headers["authorization"]) == ("GET", "/v1/accounts/7/entries?limit=2", "Bearer tw_main")
    assert others["authorization"] == "Bearer twm_other"
    assert heard == [(f"GET {ROUTE}/entries", ""), ("GET /v1/me", "")]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (problem(429, "too-many"), "too-many"),
        (problem(503, "unavailable"), "unavailable"),
        ((502, "text/html", b"<p>"), "Status502"),
        ((500, "application/json", b"{}"), "Status500"),
        ((200, "text/html", b"<p>"), "UnexpectedBody"),
    ],
)
def test_a_failure_is_the_type_of_the_problem(
    office: Office, client: OfficeClient, heard: Heard, said: Said, word: str
) -> None:
    office.says = [said]
    assert client.get(ROUTE, account_id=1) is None
    assert heard == [(f"GET {ROUTE}", word)]


def test_a_problem_that_is_a_proper_answer_has_a_row_of_its_own(
    office: Office, client: OfficeClient, heard: Heard
) -> None:
    office.says = [problem(409, "conflict"), problem(409, "conflict")]
    told = client.post("/v1/members", {}, answers=("conflict",))
    assert told is not None
    assert (told.status, told.problem) == (409, "conflict")
    assert client.post("/v1/members", {}) is None
    assert heard == [("POST /v1/members conflict", ""), ("POST /v1/members", "conflict")]


@pytest.mark.parametrize(
    ("second", "word"),
    [
        (good(201, adjustment_id=1), ""),
        (good(201, adjustment_id=2), "OtherAnswer"),
        (good(200, adjustment_id=1), "OtherAnswer"),
        (problem(409, "under-way"), "under-way"),
    ],
)
def test_a_repetition_must_be_answered_like_the_first(
    office: Office, client: OfficeClient, heard: Heard, second: Said, word: str
) -> None:
    office.says = [good(201, adjustment_id=1), second]
    first = client.post(ROUTE, {"points": 1}, key="k", account_id=1)
    assert first is not None
    client.post(ROUTE, {"points": 1}, key="k", first=first, account_id=1)
    assert [(headers["idempotency-key"], body) for _, _, headers, body in office.asked] == [("k", b'{"points": 1}')] * 2
    assert heard == [(f"POST {ROUTE}", ""), (f"POST {ROUTE} repeated", word)]


def test_every_post_has_a_key_of_its_own(office: Office, client: OfficeClient) -> None:
    office.says = [good(), good()]
    for _ in range(2):
        client.post("/v1/cards/find", {"text": "1"})
    assert len({headers["idempotency-key"] for _, _, headers, _ in office.asked}) == 2


def test_a_connection_that_was_closed_meanwhile_is_no_failure(
    office: Office, client: OfficeClient, heard: Heard
) -> None:
    office.hangs_up = True
    office.says = [good(), good()]
    client.get("/v1/me")
    client.post("/v1/cards/find", {"text": "1"})
    assert heard == [("GET /v1/me", ""), ("POST /v1/cards/find", "")]


@pytest.mark.parametrize("ask", [lambda c: c.get("/v1/me"), lambda c: c.post("/v1/me", {})])
def test_a_server_that_hangs_up_on_a_new_connection_has_failed(
    office: Office, client: OfficeClient, heard: Heard, ask: Callable[[OfficeClient], object]
) -> None:
    office.says = [None]
    assert ask(client) is None
    assert [word for _, word in heard] == ["RemoteDisconnected"]
    office.says = [good()]
    assert ask(client) is not None, "the next request has a connection of its own"
