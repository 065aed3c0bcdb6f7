"""The state of the installation, live and in plain words; proving the books; ending it in an orderly way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Response

from admin_api import operations
from admin_api.console.forms import FormKey, new_key
from admin_api.console.rendering import page
from admin_api.console.tiles import tiles
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.figures import figures
from admin_api.idempotency import Key, Reply, replied_once
from admin_api.office import Office
from admin_api.operations import Proof
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Operator = Annotated[Visitor, Depends(visiting(Permission.OPERATIONS_READ))]
Writing = Annotated[Visitor, Depends(visiting(Permission.OPERATIONS_WRITE))]

#: Findings that are minor points.
_POINTS = frozenset({"balance", "held", "owed", "merging"})
_NUMBERED = re.compile(r"(partition|worker) (\d+)")


@router.get("/operations")
async def show(visitor: Operator, office: InOffice) -> Response:
    """Show state and latest figures, and how the last proof of the books ended."""
    return page(visitor, "operations.html", **await _state(visitor, office), **_proof(visitor, office), key=new_key())


@router.get("/operations/live")
async def live(visitor: Operator, office: InOffice) -> Response:
    """Return the part that is fetched again and again."""
    return page(visitor, "operations_live.html", **await _state(visitor, office))


@router.get("/operations/verify")
async def verify_live(visitor: Operator, office: InOffice) -> Response:
    """Return how far the proof of the books is; fetched again and again."""
    return page(visitor, "operations_verify.html", **_proof(visitor, office))


@router.post("/operations/verify")
async def verify(visitor: Writing, office: InOffice, key: FormKey) -> Response:
    """Begin to prove the books."""

    async def work(request_id: bytes) -> Reply:
        return Reply(202, (await operations.prove(office, seen(visitor), request_id)).model_dump())

    await replied_once(office, seen(visitor), Key(key, "verify"), {}, work)
    return go("/operations", Flash("done", "operations.verify_begun", {}))


@router.get("/operations/drain")
async def ask_drain(visitor: Writing) -> Response:
    """Ask whether the installation is to end."""
    return page(visitor, "drain.html", key=new_key())


@router.post("/operations/drain")
async def drain(visitor: Writing, office: InOffice, key: FormKey) -> Response:
    """End the installation in an orderly way; the page that says so is the last one for a while."""

    async def work(request_id: bytes) -> Reply:
        return Reply(202, (await operations.drain(office, seen(visitor), request_id)).model_dump())

    await replied_once(office, seen(visitor), Key(key, "drain"), {}, work)
    return page(visitor, "drained.html")


async def _state(visitor: Visitor, office: Office) -> dict[str, Any]:
    health = dict(await office.installation.health())
    shown = []
    if visitor.may(Permission.FIGURES_READ):
        shown = tiles(visitor.words, await figures.now(office, seen(visitor)))
    text = orjson.dumps(health, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()
    return {
        "health": health, "raw": text, "tiles": shown, "now_ms": office.clock.now_ms(),
        "living": await operations.live_now(office, seen(visitor)), "trouble": trouble(visitor.words, health["down"]),
    }  # fmt: skip


def trouble(words: Words, down: list[str]) -> list[tuple[str, str]]:
    """Return what is down in plain words, and what that means for registers."""
    found = []
    for name in down:
        numbered = _NUMBERED.fullmatch(name)
        kind = numbered[1] if numbered else name
        number = numbered[2] if numbered else ""
        if words.known(f"down.{kind}"):
            found.append((words.t(f"down.{kind}", number=number), words.t(f"down.{kind}_means")))
        else:
            found.append((name, words.t("down.other_means")))
    return found


def _proof(visitor: Visitor, office: Office) -> dict[str, Any]:
    proof: Proof = operations.proof(office, seen(visitor))
    return {"proof": proof, "findings": _findings(visitor.words, proof.findings)}


def _findings(words: Words, findings: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in findings.items():
        key = f"operations.finding_{name}"
        title = words.t(key) if words.known(key) else name.replace("_", " ")
        plain = value
        if isinstance(value, int):
            plain = words.points(value) if name in _POINTS else words.number(value)
        found.append((title, plain if isinstance(plain, str) else orjson.dumps(plain, default=str).decode()))
    return found
