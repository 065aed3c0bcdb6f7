"""What a campaign tells: a line for each round, and one JSON object at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.campaign.rounds import Round
from tests.judge.verdict import Verdict


@dataclass
class Report:
    """Adds up rounds. `disk`: what was filled; `settings`: those of the server that are not the defaults."""

    seed: int
    disk: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    rounds: int = 0
    requests: int = 0
    approved: int = 0
    bugs: int = 0
    alone: int = 0
    conflicts: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    _silence: dict[str, list[int]] = field(default_factory=dict)
    _approval: dict[str, list[int]] = field(default_factory=dict)

    def add(self, done: Round) -> None:
        """Take in a round. Only a fault that struck alone is told by its times: those of two cannot be parted."""
        self.rounds += 1
        self.requests += done.requests
        self.approved += done.approved
        self.alone += done.alone
        self.conflicts += len(done.conflicts)
        self.struck.update(done.faults)
        self.verdict.add(done.verdict)
        if len(done.faults) == 1:
            name = done.faults[0]
            self._silence.setdefault(name, []).append(done.silence_ms())
            approval = done.first_approval_ms()
            if approval is not None:
                self._approval.setdefault(name, []).append(approval)

    @property
    def clean(self) -> bool:
        """Whether no promise was breached and no worker failed by a bug of its own."""
        return self.verdict.clean and not self.bugs

    def as_dict(self) -> dict[str, Any]:
        """Return the last line.

        `alone`: requests that the relay approved without headquarters, which later declined `conflicts` of them.
        `bugs`: workers that ended by an exception that nobody expected. `kinds`: times struck, and in ms the longest
        silence of all registers together after a strike, and the longest time from a finished strike to the first
        approval of something sent after it.
        """
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "requests": self.requests,
            "approved": self.approved,
            "alone": self.alone,
            "conflicts": self.conflicts,
            "faults": self.struck.total(),
            **self.verdict.as_dict(),
            "bugs": self.bugs,
            "disk": self.disk,
            "settings": self.settings,
            "kinds": {
                name: {
                    "struck": count,
                    "longest_silence_ms": max(self._silence.get(name, ()), default=None),
                    "first_approval_ms": max(self._approval.get(name, ()), default=None),
                }
                for name, count in sorted(self.struck.items())
            },
        }


def line_of(done: Round) -> str:
    """Return one round in a line."""
    found = "clean" if done.verdict.clean else f"BREACHES {done.verdict.as_dict()}"
    return (
        f"round {done.number}: {' + '.join(done.faults) or 'no fault'}: {done.requests} requests, "
        f"{done.approved} approved, {done.alone} by the relay alone, {len(done.conflicts)} conflicts, "
        f"silent for {done.silence_ms()} ms, {found}"
    )
