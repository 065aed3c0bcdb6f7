import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from server.health_http import HttpThread, health_app


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


@pytest.mark.parametrize(
    ("live", "ready", "codes"),
    [(True, True, (200, 200, 200)), (True, False, (200, 503, 503)), (False, True, (503, 200, 503))],
)
def test_health_answers_what_is_true(live: bool, ready: bool, codes: tuple[int, int, int]) -> None:
    health = {"live": live, "ready": ready, "down": [] if ready else ["postgres"]}
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with HttpThread(health_app(lambda: health, lambda: b"tillwire_up 1\n"), listening):
        assert get(port, "/live") == (codes[0], {"live": live})
        assert get(port, "/ready") == (codes[1], {"ready": ready, "down": health["down"]})
        assert get(port, "/health") == (codes[2], health)
        assert get(port, "/metrics") == (200, b"tillwire_up 1\n")
        assert get(port, "/docs")[0] == 404
    socket.create_server(("127.0.0.1", port)).close()
