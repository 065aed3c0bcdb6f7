"""Errors as problem details (RFC 9457): one media type, one shape, for every answer that is not what was asked for."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

MEDIA_TYPE = "application/problem+json"


class Fault(BaseModel):
    """A value that is wrong: where in the body ("network.rules.slip.1") or else ("query.limit"), and what is wrong."""

    where: str
    what: str


class ProblemDetails(BaseModel):
    """The body of a problem; `type` is a relative reference that names the kind, for programs."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    #: With 422, where the values that are wrong can be named.
    fields: list[Fault] = []


def _documented(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}},
    }


#: For `responses=` of every route under /v1: the problems that any of them may answer.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _documented("The request cannot be understood."),
    401: _documented("Nobody knows who is asking."),
    403: _documented("Not permitted."),
    404: _documented("There is no such thing, or it is not this caller's business."),
    409: _documented("It does not fit what is there, or the ledger declined it."),
    413: _documented("The body is too large."),
    422: _documented("A value is wrong, or the Idempotency-Key was used for something else."),
    429: _documented("Too often: try again after `retry-after` seconds."),
    500: _documented("A fault of the server; `reference` finds it in the log."),
    503: _documented("An engine is away, or nobody knows yet: send the same request again."),
}


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """Raised anywhere below an endpoint; becomes the answer. `more` are further members of the body."""

    def __init__(self, status: int, kind: str, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": detail, **more}
        self.headers: dict[str, str] = {}


def answer(problem: Problem) -> JSONResponse:
    """Return a problem as an answer."""
    return JSONResponse(problem.body, problem.status, problem.headers, MEDIA_TYPE)


def bad_request(detail: str, **more: Any) -> Problem:
    """Return 400: the request cannot be understood."""
    return Problem(400, "bad-request", "The request cannot be understood", detail, **more)


def unauthenticated(detail: str) -> Problem:
    """Return 401: nobody knows who is asking."""
    problem = Problem(401, "unauthenticated", "Sign in", detail)
    problem.headers["www-authenticate"] = "Bearer"
    return problem


def forbidden(detail: str) -> Problem:
    """Return 403: known, and not permitted."""
    return Problem(403, "forbidden", "Not permitted", detail)


def not_found(what: str) -> Problem:
    """Return 404: `what` names it, as in "store 7"."""
    return Problem(404, "not-found", "Not found", f"there is no {what}")


def under_way(detail: str, retry_after_s: int = 1) -> Problem:
    """Return 409: the first request with this Idempotency-Key is still being worked on."""
    problem = Problem(409, "under-way", "Still under way", detail)
    problem.headers["retry-after"] = str(retry_after_s)
    return problem


def key_reused() -> Problem:
    """Return 422: one Idempotency-Key for two different requests."""
    return Problem(
        422,
        "idempotency-key-reused",
        "The Idempotency-Key was used for another request",
        "send each new request with a new Idempotency-Key",
    )


def conflict(detail: str, **more: Any) -> Problem:
    """Return 409: it does not fit what is there."""
    return Problem(409, "conflict", "It does not fit what is there", detail, **more)


def declined(outcome: str, detail: str) -> Problem:
    """Return 409: the ledger's decision is a no; `outcome` is its name in SPEC.md."""
    return Problem(409, "declined", "Declined", detail, outcome=outcome)


def too_large(bytes_max: int) -> Problem:
    """Return 413: the body is longer than the office takes."""
    return Problem(413, "too-large", "The body is too large", f"a body has at most {bytes_max} bytes")


def invalid(detail: str, *faults: tuple[str, str]) -> Problem:
    """Return 422: understood, and a value is wrong; each fault is `where` and `what` of a `Fault`."""
    more = {"fields": [{"where": where, "what": what} for where, what in faults]} if faults else {}
    return Problem(422, "invalid", "A value is wrong", detail, **more)


def too_many(detail: str, retry_after_s: int) -> Problem:
    """Return 429: too often."""
    problem = Problem(429, "too-many", "Too many requests", detail)
    problem.headers["retry-after"] = str(retry_after_s)
    return problem


def unavailable(detail: str, retry_after_s: int = 1) -> Problem:
    """Return 503: an engine is away, or nobody knows yet; the same request may be sent again."""
    problem = Problem(503, "unavailable", "Not available at the moment", detail)
    problem.headers["retry-after"] = str(retry_after_s)
    return problem
