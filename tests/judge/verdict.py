"""What the judge found: how many breaches of each kind, and the first few in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

BREACHES = ("lost", "doubled", "overdrawn", "flipped", "gaps", "unconserved", "stuck")
EXAMPLES_MAX = 5

Report = Callable[[str, str], None]
"""Called with the kind of breach and a sentence about it."""


@dataclass
class Verdict:
    """Breaches by kind; all zero is innocence."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def report(self, breach: str, sentence: str) -> None:
        """Count one breach. Raises KeyError for a kind that is not in BREACHES: a misspelt one would be no breach."""
        if breach not in BREACHES:
            raise KeyError(breach)
        self.counts[breach] += 1
        examples = self.examples.setdefault(breach, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(sentence)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts.total()

    def as_dict(self) -> dict[str, int]:
        """Return the count of every kind, also of those that did not happen."""
        return {breach: self.counts[breach] for breach in BREACHES}

    def add(self, other: Verdict) -> None:
        """Take in what another round found."""
        self.counts.update(other.counts)
        for breach, examples in other.examples.items():
            mine = self.examples.setdefault(breach, [])
            mine.extend(examples[: EXAMPLES_MAX - len(mine)])

    def __str__(self) -> str:
        if self.clean:
            return "no breach"
        return "\n".join(
            f"{breach} ({self.counts[breach]}): {sentence}"
            for breach in BREACHES
            for sentence in self.examples.get(breach, [])
        )
