"""The console as an application of its own, mounted under "/": pages, static files, and errors in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from admin_api.console import (
    account_deeds,
    accounts,
    adjusting,
    audit,
    card_deeds,
    cards,
    coalition,
    coalition_deeds,
    conflicts,
    dashboard,
    entrance,
    members,
    merging,
    onboarding,
    operations,
    preferences,
    profile,
    relays,
    rules,
    search,
    tokens,
    users,
)
from admin_api.console.rendering import page
from admin_api.console.visitor import Anybody, SignInNeeded, Visitor, sign_in_address, stranger
from admin_api.office import Office
from admin_api.problem import Problem, not_found
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry.registry import Conflict

#: Sent by console.js with what it asks for; such a request gets a status instead of a detour.
PART_HEADER = "x-part"
_TOLD = frozenset({400, 401, 403, 404, 409, 422, 429, 503})
_SERVER_FAULT = 500
_STATIC_S = 31_536_000


class _Static(StaticFiles):
    """Files whose addresses change with their content."""

    def file_response(self, *args: Any, **named: Any) -> Response:
        response = super().file_response(*args, **named)
        response.headers["cache-control"] = f"public, max-age={_STATIC_S}, immutable"
        return response


def create_console(office: Office) -> FastAPI:
    """Return the console of an office."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.office = office
    app.mount("/static", _Static(directory=Path(__file__).parent / "static"))
    for module in (
        dashboard, entrance, operations, preferences, search, accounts, account_deeds, card_deeds, adjusting, merging,
        members, cards, onboarding, relays, conflicts, coalition_deeds, coalition, rules, audit, users, tokens, profile,
    ):  # fmt: skip
        app.include_router(module.router)
    app.add_api_route("/{path:path}", _nowhere, methods=["GET"])
    _answer_errors(app)
    return app


async def _nowhere(_visitor: Anybody) -> Response:
    """Answer an address that leads to no page, to somebody who is known, so that the way back is on the page."""
    raise not_found("such page")


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(SignInNeeded)
    def _sign_in(request: Request, error: SignInNeeded) -> Response:
        if PART_HEADER in request.headers:
            return Response(status_code=401)
        return RedirectResponse(sign_in_address(error.back), 303)

    @app.exception_handler(Problem)
    def _problem(request: Request, problem: Problem) -> Response:
        return _page(request, problem.status, str(problem.body["detail"]), problem.headers)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        return _page(request, error.status_code, "")

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        return _page(request, 400, "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()))

    @app.exception_handler(Conflict)
    def _conflict(request: Request, error: Conflict) -> Response:
        return _page(request, 409, str(error))

    @app.exception_handler(JournalDown)
    @app.exception_handler(Undecided)
    def _away(request: Request, _error: Exception) -> Response:
        return _page(request, 503, "")


def _page(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    visitor: Visitor = getattr(request.state, "visitor", None) or stranger(request, request.app.state.office)
    told = status if status in _TOLD else _SERVER_FAULT if status >= _SERVER_FAULT else 400
    response = page(visitor, "error.html", status=status, told=told, detail=detail)
    response.headers.update(headers or {})
    return response
