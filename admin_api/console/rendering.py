"""Templates to pages, and what every template may use."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from admin_api.console.navigation import MAIN
from admin_api.console.visitor import FLASH_COOKIE, THEMES, Flash, Visitor
from admin_api.console.words import LANGUAGES
from admin_api.security.permissions import Permission

_HASH_CHARACTERS = 12


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("admin_api.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(asset=asset, navigation=MAIN, languages=LANGUAGES, themes=THEMES, permissions=Permission)
    return environment


@cache
def asset(name: str) -> str:
    """Return the address of a static file, another one when its content is another."""
    content = resources.files("admin_api.console").joinpath("static", name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]}"


def page(visitor: Visitor, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page, or a part of one, in the visitor's language."""
    words = visitor.words
    text = (
        _environment()
        .get_template(template)
        .render(visitor=visitor, words=words, t=words.t, plural=words.plural, said=_said, **context)
    )
    response = HTMLResponse(text, status)
    if visitor.flashes:
        response.delete_cookie(FLASH_COOKIE, path="/", httponly=True, samesite="lax")
    return response


def _said(visitor: Visitor, flash: Flash) -> str:
    """Return what a step had to say; nothing if the cookie was not made here."""
    try:
        return visitor.words.t(flash.key, **flash.fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return ""
