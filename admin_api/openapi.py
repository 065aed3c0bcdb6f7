"""The OpenAPI document: `python -m admin_api.openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from admin_api.problem import ProblemDetails

_DESCRIPTION = """\
Points and money are integers in minor units (100 are one point), moments (`*_ms`) are milliseconds since 1970, days are
`"2026-12-31"`. Requests with unknown fields are refused.

**Who asks**: a token of `POST /v1/tokens` as `Authorization: Bearer ...`, or the session of a person who has signed in.

**Every POST** but those of signing in needs the header `Idempotency-Key`, new for each new request. Without an answer,
or after 503, send the same request with the same key: it is done once, and the answer is the same.

**Errors** are problems (RFC 9457); `detail` is a sentence for people, `fields` names what is wrong in a request.

**Lists** are `{"items": [...], "next": ...}`: ask again with `?cursor=` and what `next` says, until it is null.
"""
_TAGS = {
    "signing in": "People: invitations, sessions.",
    "users": "People who may sign in, and their roles.",
    "tokens": "Tokens for programs.",
    "member tokens": "Tokens that a chain's site or app gets for one member.",
    "coalition": "Partners, their networks and stores.",
    "terminals": "Cash registers: secrets, what they may do, switching off.",
    "relays": "Stores that reach us over MQTT: their own computers, and what these promised in vain.",
    "rules": "What earns, what may be spent, what expires, what a slip says: by versions.",
    "members": "Personal data. Every look is written down.",
    "cards": "Issuing, blocking, replacing; batches for the printer.",
    "accounts": "Balances, history, what became of a receipt, adjustments, merging.",
    "me": "What a member token sees: one account.",
    "figures": "What was answered, by time, network and store.",
    "operations": "The installation itself: live, proving the books, draining.",
    "audit": "Who did or saw what.",
    "health": "For monitors; without a token.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, with the shape of problems, which no endpoint names as a model."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=_DESCRIPTION,
            tags=[{"name": name, "description": about} for name, about in _TAGS.items()],
            routes=app.routes,
            separate_input_output_schemas=False,
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas[ProblemDetails.__name__] = problem
        app.openapi_schema = document
    return app.openapi_schema


def text(document: dict[str, Any]) -> str:
    """Return the document as the file in docs/ has it."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def current() -> str:
    """Return the text of the document as the sources have it now."""
    from admin_api.app import create_app  # noqa: PLC0415 - the application describes itself with this module
    from admin_api.office import Keys, Office, OfficeLimits  # noqa: PLC0415
    from ledger.clock import SystemClock  # noqa: PLC0415

    # Nothing is asked of the engines, so there are none.
    nothing = cast("Any", None)
    office = Office(
        nothing, nothing, Keys(b"k" * 32, b"k" * 32, b"k" * 32), OfficeLimits(), SystemClock(), nothing, nothing
    )
    return text(describe(create_app(office)))


if __name__ == "__main__":
    sys.stdout.write(current())
