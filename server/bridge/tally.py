"""What a bridge counts."""

from __future__ import annotations

from collections import Counter


class Tally:
    """Plain numbers that only grow; `figures` gives them names for whoever scrapes."""

    def __init__(self) -> None:
        self.publications_in = 0
        self.publications_out = 0
        self.publications_lost = 0
        self.requests = 0
        self.advices = 0
        self.conflicts = 0
        self.sessions_begun = 0
        self.refused: Counter[str] = Counter()
        """Publications that were not taken, by reason."""

    def figures(self) -> dict[str, int]:
        """Return them under names that end in `_total`."""
        counted = {f"{name}_total": value for name, value in vars(self).items() if isinstance(value, int)}
        return {**counted, **{f"refused_{reason}_total": count for reason, count in self.refused.items()}}
