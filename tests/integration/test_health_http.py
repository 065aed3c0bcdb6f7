import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from server.observation.health_http import HttpThread


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        with error:
            text, status = error.read(), error.code
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


class Process:
    def __init__(self, live: bool, ready: bool) -> None:
        self._health = {"live": live, "ready": ready, "down": [] if ready else ["postgres"], "state": "serving"}

    def health(self) -> dict[str, Any]:
        return self._health

    def metrics(self) -> bytes:
        return b"tillwire_up 1\n"


@pytest.mark.parametrize(
    ("live", "ready", "codes"),
    [(True, True, (200, 200)), (True, False, (200, 503)), (False, True, (503, 503))],
)
def test_health_answers_what_is_true(live: bool, ready: bool, codes: tuple[int, int]) -> None:
    process = Process(live, ready)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with HttpThread(process, listening):
        assert get(port, "/health/live") == (codes[0], {"live": live})
        assert get(port, "/health/ready") == (codes[1], process.health())
        assert get(port, "/metrics") == (200, b"tillwire_up 1\n")
    socket.create_server(("127.0.0.1", port)).close()
