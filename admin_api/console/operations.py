"""The state of the installation, live."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Response

from admin_api import figures
from admin_api.console.rendering import page
from admin_api.console.tiles import tiles
from admin_api.console.visitor import Visitor, seen, visiting
from admin_api.office import Office
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Operator = Annotated[Visitor, Depends(visiting(Permission.OPERATIONS_READ))]


@router.get("/operations")
async def show(visitor: Operator, office: InOffice) -> Response:
    """Show state and latest figures."""
    return page(visitor, "operations.html", **await _state(visitor, office))


@router.get("/operations/live")
async def live(visitor: Operator, office: InOffice) -> Response:
    """Return the part that is fetched again and again."""
    return page(visitor, "operations_live.html", **await _state(visitor, office))


async def _state(visitor: Visitor, office: Office) -> dict[str, Any]:
    health = dict(await office.installation.health())
    shown = []
    if visitor.may(Permission.FIGURES_READ):
        shown = tiles(visitor.words, await figures.now(office, seen(visitor)))
    text = orjson.dumps(health, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()
    return {"health": health, "raw": text, "tiles": shown, "now_ms": office.clock.now_ms()}
