"""The OpenAPI document: `python -m admin_api.openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from admin_api.problem import ProblemDetails


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, with the shape of problems, which no endpoint names as a model."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
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
    office = Office(nothing, nothing, Keys(b"k" * 32, b"k" * 32), OfficeLimits(), SystemClock(), nothing, nothing)
    return text(describe(create_app(office)))


if __name__ == "__main__":
    sys.stdout.write(current())
