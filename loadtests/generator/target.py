"""Where the load goes: one server, its terminals and its cards, as `tillwire add population` wrote them down."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from protocol import tokens


@dataclass(frozen=True, slots=True)
class Target:
    """A server and its population; `tls_ca` is the authority of its certificate, None means plain TCP."""

    host: str
    port: int
    terminals: int
    terminal_prefix: str
    secret: str
    accounts: int
    first_card: int
    currency: str
    lots: int = 0
    tls_ca: str | None = None

    @classmethod
    def read(cls, file: Path, tls_ca: Path | None = None) -> Target:
        """Read a population's file; raises OSError, or ValueError when it is none."""
        try:
            return cls(**json.loads(file.read_text()), tls_ca=str(tls_ca) if tls_ca else None)
        except TypeError as error:
            raise ValueError(f"{file} describes no population: {error}") from None

    def terminal(self, register: int) -> str:
        """Return who a register signs on as; registers beyond the last terminal share theirs with another."""
        return f"{self.terminal_prefix}{register % self.terminals}"

    def card_value(self, number: int) -> str:
        """Return the EAN-13 of an account, counted from 0."""
        first12 = f"2{self.first_card + number:011d}"
        return first12 + tokens.ean13_check_digit(first12)

    def tls(self) -> ssl.SSLContext | None:
        """Return how to check the server's certificate, or None for plain TCP."""
        return ssl.create_default_context(cafile=self.tls_ca) if self.tls_ca else None
