"""Who may sign on and which cards there are: the file that `tillwire add population` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from protocol import tokens
from protocol.codes import CardKind
from protocol.requests import Card

_DIGITS: Final = 11


@dataclass(frozen=True, slots=True)
class Population:
    """Terminals with one common secret, and accounts with a card each, on one server."""

    host: str
    port: int
    terminals: int
    terminal_prefix: str
    secret: str = field(repr=False)
    accounts: int
    first_card: int
    currency: str

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the file. Raises OSError, and ValueError when it is no population."""
        try:
            told = json.loads(file.read_text("utf-8"))
            return cls(**{name: told[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} is not what `tillwire add population` writes: {error!r}") from None

    def terminal(self, number: int) -> str:
        """Return the id of terminal 0 .. terminals-1."""
        return f"{self.terminal_prefix}{number}"

    def card(self, number: int) -> Card:
        """Return the card of account 0 .. accounts-1; a higher number is well-formed and nobody's."""
        first12 = f"2{self.first_card + number:0{_DIGITS}d}"
        return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))


@lru_cache(maxsize=1)
def population_of(file: str) -> Population:
    """Return the population of a file, read once a process."""
    return Population.read(Path(file))
