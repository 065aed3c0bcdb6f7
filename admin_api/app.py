"""The HTTP application: the operators' API under /v1, the console's pages, health and metrics of the process."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope

from admin_api import health
from admin_api.api import (
    accounts,
    audit,
    cards,
    coalition,
    conflicts,
    figures,
    me,
    member_tokens,
    members,
    operations,
    relays,
    rules,
    sign_in,
    terminals,
    tokens,
    users,
)
from admin_api.console.app import create_console
from admin_api.office import Office
from admin_api.openapi import describe
from admin_api.problem import Problem, answer, bad_request, conflict, invalid, key_reused, unavailable
from admin_api.security.body_limit import BodyLimit
from admin_api.security.form_charset import FormCharset
from admin_api.security.headers import Headers
from admin_api.security.strangers import Strangers
from admin_api.security.unexpected import Unexpected
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry.registry import Conflict
from ledger.submission import Refusal

_KINDS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed"}
_FAULTS_TOLD_MAX = 20
_FAULT_CHARACTERS_MAX = 200
_KEY_HEADER = ("header", "idempotency-key")


def create_app(office: Office) -> FastAPI:
    """Return the application of an office."""
    app = FastAPI(
        title="Tillwire",
        version="1",
        summary="Operators' interface of a loyalty-card authorisation server.",
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    app.state.office = office
    app.include_router(health.router(office.installation))
    # Among routes that match the same path the first one wins, so literal paths come before those with parameters.
    for subject in (sign_in, users, tokens, member_tokens, coalition, terminals, relays, conflicts, rules, members,
                    cards, accounts, me, figures, operations, audit):  # fmt: skip
        app.include_router(subject.router)
    # Takes whatever none of the routes above has taken.
    app.router.routes.append(_Pages("/", create_console(office)))
    _answer_problems(app)
    _protect(app, office)
    return app


class _Pages(Mount):
    """The console, for every path but those of the interface: there a wrong method is told from a wrong path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if f"{scope['path']}/".startswith("/v1/"):
            return Match.NONE, {}
        return super().matches(scope)


def _protect(app: FastAPI, office: Office) -> None:
    """Put around the endpoints what every request passes.

    What is added last stands outermost: headers are on every answer, also on those of the others; what fails in the
    others is answered; a body is counted before anybody reads it; strangers are counted before anybody works for them.
    """
    app.add_middleware(FormCharset)
    app.add_middleware(Strangers, office=office)
    app.add_middleware(BodyLimit, bytes_max=office.limits.body_bytes_max)
    app.add_middleware(Unexpected)
    app.add_middleware(Headers, https=office.console_url.startswith("https:"))


def _answer_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def _problem(_request: Request, problem: Problem) -> JSONResponse:
        return answer(problem)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        if any(tuple(e["loc"]) == _KEY_HEADER and e["type"] == "missing" for e in error.errors()):
            return answer(bad_request("every POST needs the header Idempotency-Key, new for each new request"))
        # A body of a megabyte can have a hundred thousand faults; nobody reads more than some.
        faults = [(_where(e["loc"]), _shown(e["msg"])) for e in error.errors()[:_FAULTS_TOLD_MAX]]
        return answer(invalid("; ".join(f"{where}: {what}" for where, what in faults), *faults))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if not f"{request.url.path}/".startswith("/v1/"):
            return await http_exception_handler(request, error)
        title = HTTPStatus(error.status_code).phrase
        problem = Problem(error.status_code, _KINDS.get(error.status_code, "http"), title, str(error.detail))
        problem.headers.update(error.headers or {})
        return answer(problem)

    @app.exception_handler(Conflict)
    async def _conflict(_request: Request, error: Conflict) -> JSONResponse:
        return answer(conflict(str(error)))

    @app.exception_handler(JournalDown)
    async def _down(_request: Request, _error: JournalDown) -> JSONResponse:
        return answer(unavailable("the database does not answer"))

    @app.exception_handler(Undecided)
    async def _undecided(_request: Request, error: Undecided) -> JSONResponse:
        if error.refusal is Refusal.ID_REUSED:
            return answer(key_reused())
        sentence = (
            f"no decision was heard ({error}): send the same request with the same Idempotency-Key, it is done once"
        )
        return answer(unavailable(sentence))


def _where(place: Sequence[int | str]) -> str:
    """Return the path to a value: in the body, as whoever checks more than its shape says it, or of a parameter."""
    path = place[1:] if place[0] == "body" and len(place) > 1 else place
    return _shown(".".join(map(str, path)))


def _shown(text: str) -> str:
    """Return a text that may have come from outside as one that can be written: half a surrogate pair cannot.

    The name of an unknown field can be as long as the body; its beginning will do.
    """
    return text[:_FAULT_CHARACTERS_MAX].encode("utf-8", "replace").decode()
