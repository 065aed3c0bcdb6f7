"""Where the load goes: a server with a population."""

from __future__ import annotations

import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.population import Population
from protocol import tokens


@dataclass(frozen=True, slots=True)
class Target:
    """A population and how its server is reached; `tls_ca` is who vouches for it, None means plain TCP."""

    population: Population
    tls_ca: Path | None = None

    def terminal(self, register: int) -> str:
        """Return who a register signs on as; registers beyond the last terminal share theirs with another."""
        return self.population.terminal(register % self.population.terminals)

    def card(self, number: int) -> bytes:
        """Return the EAN-13 of an account, counted from 0, as it stands in a frame."""
        # As Population.card has it, less the object around it: a run draws some hundred thousand cards.
        first12 = f"2{self.population.first_card + number:011d}"
        return (first12 + tokens.ean13_check_digit(first12)).encode()

    def tls(self) -> ssl.SSLContext | None:
        """Return how to check the server's certificate, or None for plain TCP."""
        return ssl.create_default_context(cafile=self.tls_ca) if self.tls_ca else None

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"population": asdict(self.population), "tls_ca": str(self.tls_ca) if self.tls_ca else None}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Target:
        """Return the same target in another process."""
        return cls(Population(**told["population"]), Path(told["tls_ca"]) if told["tls_ca"] else None)
