"""A client of the admin API that reports each request to locust's statistics under its route, not under its address.

It is what a careful client is: one connection that is kept open, an Idempotency-Key on every POST, and a request that
met a connection which the server had closed meanwhile is sent again on a new one.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from loadtests.users.rows import Rows

_TIMEOUT_S = 10.0
_GOOD = range(200, 300)
_PROBLEM = "application/problem+json"
_PROBLEMS = "/problems/"

OTHER_ANSWER: Final = "OtherAnswer"
UNEXPECTED_BODY: Final = "UnexpectedBody"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: `problem` is the last word of a problem's type, and empty if it is none."""

    status: int
    body: Any
    problem: str = ""


class OfficeClient:
    """Asks /v1 with one token after the other; `token` may be changed at any time.

    Nothing is raised: what failed is reported, and None returned.
    """

    def __init__(self, admin_url: str, token: str, report: Rows) -> None:
        address = urlsplit(admin_url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(address.hostname or "", address.port, timeout=_TIMEOUT_S)
        self._token = token
        self._report = report

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(
        self, route: str, *, query: Mapping[str, object] | None = None, token: str = "", **ids: object
    ) -> Told | None:
        """Ask for what lies at a route, as in "/v1/accounts/{account_id}"; `token` is another than the client's own."""
        asked_at = route.format_map({name: quote(str(value), safe="") for name, value in ids.items()})
        path = f"{asked_at}?{urlencode(query)}" if query else asked_at
        return self._ask("GET", route, path, None, {}, token)

    def post(
        self,
        route: str,
        body: Mapping[str, object],
        *,
        answers: Collection[str] = (),
        key: str = "",
        first: Told | None = None,
        **ids: object,
    ) -> Told | None:
        """Ask for something to be done. `answers` are types of problems that are proper answers here.

        With `key` and `first` it is the repetition of a request under its key: any other answer than the first one is a
        failure, and the row is one of its own.
        """
        path = route.format_map({name: quote(str(value), safe="") for name, value in ids.items()})
        headers = {"content-type": "application/json", "idempotency-key": key or secrets.token_hex(16)}
        return self._ask("POST", route, path, json.dumps(body), headers, "", answers, first)

    def _ask(
        self,
        method: str,
        route: str,
        path: str,
        body: str | None,
        headers: Mapping[str, str],
        token: str,
        answers: Collection[str] = (),
        first: Told | None = None,
    ) -> Told | None:
        name = f"{method} {route}" + (" repeated" if first is not None else "")
        given = {**headers, "authorization": f"Bearer {token or self._token}"}
        began_s = time.perf_counter()
        try:
            status, media_type, told = self._exchange(method, path, body, given)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._report.failed(name, type(error).__name__)
            return None
        elapsed_s = time.perf_counter() - began_s
        found, word = _read(status, media_type, told)
        if found is None or (found.problem and found.problem not in answers):
            self._report.failed(name, word)
            return None
        if first is not None and found != first:
            self._report.failed(name, OTHER_ANSWER)
            return None
        self._report.good(f"{name} {word}".rstrip(), elapsed_s, len(told))
        return found

    def _exchange(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        used_before = self._connection.sock is not None
        try:
            return self._once(method, path, body, headers)
        except (ConnectionError, http.client.RemoteDisconnected):
            self._connection.close()
            if not used_before:
                raise
            # It was closed between two requests. Nothing is done twice: what changes anything has a key.
            return self._once(method, path, body, headers)

    def _once(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()


def _read(status: int, media_type: str, body: bytes) -> tuple[Told | None, str]:
    """Return an answer and the word for it in the statistics; no answer if it is none of the interface's."""
    try:
        told = json.loads(body)
    except ValueError:
        return None, UNEXPECTED_BODY if status in _GOOD else f"Status{status}"
    if status in _GOOD:
        return Told(status, told), ""
    if media_type != _PROBLEM or not isinstance(told, dict):
        return None, f"Status{status}"
    problem = str(told.get("type", "")).removeprefix(_PROBLEMS) or f"Status{status}"
    return Told(status, told, problem), problem
