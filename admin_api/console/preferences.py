"""Language and colours, kept in cookies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from admin_api.console.visitor import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Anybody, go, keep
from admin_api.console.words import LANGUAGES

router = APIRouter()


@router.post("/preferences")
async def choose(
    visitor: Anybody,
    back: Annotated[str, Form()] = "/",
    language: Annotated[str, Form()] = "",
    theme: Annotated[str, Form()] = "",
) -> Response:
    """Remember what was chosen, and go back to the page."""
    del visitor  # Whoever is signed in has shown that the form is ours.
    response = go(back)
    if language in LANGUAGES:
        keep(response, LANGUAGE_COOKIE, language)
    if theme in THEMES:
        keep(response, THEME_COOKIE, theme)
    return response
