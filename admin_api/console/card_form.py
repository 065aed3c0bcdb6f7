"""A card as somebody names it in a form: by its number, or by how a number that is to be drawn begins."""

from __future__ import annotations

from pydantic import ValidationError

from admin_api.cards.cards import NumberAsked
from admin_api.console.forms import NotTaken, number_of
from admin_api.console.words import Words


class TypedNumber:
    """What somebody filled in to name a card."""

    def __init__(self, kind: str = "ean13", way: str = "number", number: str = "", prefix: str = "") -> None:
        self.kind, self.way, self.number, self.prefix = kind, way, number.strip(), prefix.strip()

    def asked(self, words: Words) -> NumberAsked:
        """Return it as the card functions take it. Raises NotTaken."""
        drawn, number = self.way == "draw", number_of(self.kind, self.number)
        if not drawn and not self.number:
            raise NotTaken(words.t("card.number_needed"))
        try:
            return NumberAsked.model_validate(
                {"kind": self.kind, "number": None if drawn else number, "prefix": self.prefix if drawn else None}
            )
        except ValidationError:
            raise NotTaken(words.t("card.prefix_wrong" if drawn else "card.kind_wrong")) from None
