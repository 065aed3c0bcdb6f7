"""The HTTP application: the operators' API under /v1, the console's pages, health and metrics of the process."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from admin_api import health
from admin_api.api import figures
from admin_api.office import Office
from admin_api.problem import MEDIA_TYPE, Problem, bad_request, conflict, invalid, key_reused, unavailable
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry.registry import Conflict
from ledger.submission import Refusal

_KEY_HEADER = ("header", "idempotency-key")


def create_app(office: Office) -> FastAPI:
    """Return the application of an office."""
    app = FastAPI(title="Tillwire", version="1", summary="Operators' interface of a loyalty-card authorisation server.")
    app.state.office = office
    app.include_router(health.router(office.installation))
    app.include_router(figures.router)
    _answer_problems(app)
    return app


def _answer_problems(app: FastAPI) -> None:
    def answer(problem: Problem) -> JSONResponse:
        return JSONResponse(problem.body, problem.status, problem.headers, MEDIA_TYPE)

    @app.exception_handler(Problem)
    def _problem(_request: Request, problem: Problem) -> JSONResponse:
        return answer(problem)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        if any(tuple(e["loc"]) == _KEY_HEADER and e["type"] == "missing" for e in error.errors()):
            return answer(bad_request("every POST needs the header Idempotency-Key, new for each new request"))
        fields = [{"where": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors()]
        return answer(invalid("; ".join(f"{f['where']}: {f['what']}" for f in fields), fields=fields))

    @app.exception_handler(Conflict)
    def _conflict(_request: Request, error: Conflict) -> JSONResponse:
        return answer(conflict(str(error)))

    @app.exception_handler(JournalDown)
    def _down(_request: Request, _error: JournalDown) -> JSONResponse:
        return answer(unavailable("the database does not answer"))

    @app.exception_handler(Undecided)
    def _undecided(_request: Request, error: Undecided) -> JSONResponse:
        if error.refusal is Refusal.ID_REUSED:
            return answer(key_reused())
        return answer(unavailable(f"not decided: {error}; send the same request again"))
