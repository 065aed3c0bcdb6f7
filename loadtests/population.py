"""The accounts and terminals of a load test, as `tillwire add population` describes them in its output file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from protocol import tokens
from protocol.codes import CardKind
from protocol.requests import Card


@dataclass(frozen=True, slots=True)
class Population:
    """What `tillwire add population` made: `accounts` cards and `terminals` terminals with one secret."""

    host: str
    port: int
    terminals: int
    terminal_prefix: str
    secret: str = field(repr=False)
    accounts: int
    first_card: int
    currency: str
    lots: int

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return what is written in the command's output file."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def terminal(self, number: int) -> str:
        """Return the id of a terminal from 0 on. Raises IndexError."""
        if not 0 <= number < self.terminals:
            raise IndexError(f"there are {self.terminals} terminals, not {number + 1}")
        return f"{self.terminal_prefix}{number}"

    def card(self, number: int) -> Card:
        """Return the card of an account from 0 on. Raises IndexError."""
        if not 0 <= number < self.accounts:
            raise IndexError(f"there are {self.accounts} accounts, not {number + 1}")
        first12 = f"2{self.first_card + number:011d}"
        return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))
