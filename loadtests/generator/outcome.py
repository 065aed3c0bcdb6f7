"""What came of one run, and its sums over several processes."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MS = 1_000
_ARRAYS = ("latencies_us",)


@dataclass(slots=True)
class Outcome:
    """Figures of the measured seconds, and what the journal must show of the whole run.

    `due` are the requests whose time came in an open loop, `given_up` those of them that waited too long for a
    register. Latencies are those of approvals, in microseconds, unsorted. `effects` are the approvals of the whole run
    by operation, beginning and end included; `doubtful` are requests that may have taken effect all the same.
    """

    registers: int = 0
    seconds: float = 0.0
    due: int = 0
    given_up: int = 0
    approved: int = 0
    declined: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    sign_on_s: float = 0.0
    effects: Counter[str] = field(default_factory=Counter)
    doubtful: int = 0
    prefix: str = ""
    observed: dict[str, float] = field(default_factory=dict)
    latencies_us: array[int] = field(default_factory=lambda: array("I"), repr=False)

    @property
    def answered(self) -> int:
        """Requests that got an ANSWER."""
        return self.approved + self.declined

    @property
    def answered_per_s(self) -> float:
        """ANSWERs a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def approved_per_s(self) -> float:
        """Approvals a second."""
        return self.approved / self.seconds if self.seconds else 0.0

    @property
    def cpu_us_per_request(self) -> float:
        """Microseconds of this generator's own processor time for each ANSWER or ERROR."""
        heard = self.answered + self.errors.total()
        return self.cpu_s / heard * 1e6 if heard else 0.0

    def goodput_per_s(self, deadline_ms: float) -> float:
        """Return the approvals a second that came within `deadline_ms` of the moment they were due."""
        in_time = sum(latency <= deadline_ms * _MS for latency in self.latencies_us)
        return in_time / self.seconds if self.seconds else 0.0

    def percentiles_ms(self, *parts: float) -> list[float]:
        """Return the latencies in ms that such parts (0 to 1) of the approvals do not exceed; 0 without approvals."""
        ordered = sorted(self.latencies_us)
        if not ordered:
            return [0.0 for _ in parts]
        return [ordered[min(len(ordered) - 1, int(part * len(ordered)))] / _MS for part in parts]

    def to_json(self) -> dict[str, Any]:
        """Return all but the latencies."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in _ARRAYS}

    def save(self, file: Path) -> None:
        """Write the latencies; the rest goes by `to_json`."""
        with file.open("wb") as to:
            self.latencies_us.tofile(to)

    @classmethod
    def load(cls, text: Mapping[str, Any], file: Path) -> Outcome:
        """Read what `to_json` and `save` wrote."""
        outcome = cls(**{**text, "errors": Counter(text["errors"]), "effects": Counter(text["effects"])})
        outcome.latencies_us.frombytes(file.read_bytes())
        return outcome


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the sums over the processes of one run, which measured the same seconds."""
    total = Outcome()
    for one in outcomes:
        for name in ("registers", "due", "given_up", "approved", "declined", "cpu_s", "doubtful"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.seconds = max(total.seconds, one.seconds)
        total.sign_on_s = max(total.sign_on_s, one.sign_on_s)
        total.errors.update(one.errors)
        total.effects.update(one.effects)
        total.prefix = one.prefix
        total.latencies_us.extend(one.latencies_us)
    return total
