"""The accounts and terminals of a load test, as `tillwire add population` describes them in its output file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from protocol import tokens
from protocol.codes import CardKind
from protocol.requests import Card


@dataclass(frozen=True, slots=True)
class Population:
    """What `tillwire add population` made: `accounts` cards and `terminals` terminals with one secret.

    `relays` are the credentials of further stores' relays, each store with `relay_terminals` terminals of that secret.
    """

    host: str
    port: int
    terminals: int
    terminal_prefix: str
    secret: str = field(repr=False)
    accounts: int
    first_card: int
    currency: str
    lots: int
    relays: Sequence[str] = field(default=(), repr=False)
    relay_terminals: int = 0
    relay_terminal_prefix: str = ""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return what is written in the command's output file."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def terminal(self, number: int) -> str:
        """Return the id of a terminal from 0 on. Raises IndexError."""
        if not 0 <= number < self.terminals:
            raise IndexError(f"there are {self.terminals} terminals, not {number + 1}")
        return f"{self.terminal_prefix}{number}"

    def relay_terminal(self, relay: int, number: int) -> str:
        """Return the id of a terminal behind a relay, both from 0 on. Raises IndexError."""
        if not (0 <= relay < len(self.relays) and 0 <= number < self.relay_terminals):
            raise IndexError(f"there are {len(self.relays)} relays with {self.relay_terminals} terminals each")
        return f"{self.relay_terminal_prefix}{relay}-{number}"

    def behind(self, relay: int, host: str, port: int) -> Self:
        """Return the population as the terminals behind a relay see it, which listens at `host` and `port`."""
        prefix = f"{self.relay_terminal_prefix}{relay}-"
        return replace(self, host=host, port=port, terminals=self.relay_terminals, terminal_prefix=prefix)

    def card(self, number: int) -> Card:
        """Return the card of an account from 0 on. Raises IndexError."""
        if not 0 <= number < self.accounts:
            raise IndexError(f"there are {self.accounts} accounts, not {number + 1}")
        first12 = f"2{self.first_card + number:011d}"
        return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))
