"""Generators as processes of their own, so that their processor time can be told from that of what they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.generator.fleet import Trouble
from loadtests.generator.load import Load, Work
from loadtests.generator.outcome import Outcome, together
from loadtests.generator.target import Target

_CHECKOUT = Path(__file__).parents[2]
_PREFIX_BYTES = 8
_END_S = 10.0


def run(
    target: Target, load: Load, *, processes: int = 1, observe: Callable[[], dict[str, float]] | None = None
) -> Outcome:
    """Run a load in so many processes and return what came of it.

    `observe` is called at both ends of what is measured; what its figures grew by is `observed` of the outcome.
    Raises Trouble when the server cannot be reached or does what no register expects.
    """
    if not 1 <= processes <= load.registers:
        raise ValueError(f"{load.registers} registers cannot be shared by {processes} processes")
    prefix = os.urandom(_PREFIX_BYTES)
    with tempfile.TemporaryDirectory(prefix="tillwire-load-") as name, ExitStack() as stack:
        children = []
        for share in range(processes):
            job = _job(target, load, share, processes, prefix, Path(name) / str(share))
            children.append(stack.enter_context(_child(job)))
        signed_on = [child.expect("ready") for child in children]
        for child in children:
            child.say("go")
        for child in children:
            child.expect("begun")
        before = observe() if observe else {}
        for child in children:
            child.expect("ended")
        after = observe() if observe else {}
        outcomes = []
        for share, child in enumerate(children):
            told = child.expect("outcome")
            outcomes.append(Outcome.load(told, Path(name) / str(share)))
        outcome = together(outcomes)
        outcome.sign_on_s = max(one["complete_s"] - one["first_contact_s"] for one in signed_on)
        outcome.observed = {name: after[name] - value for name, value in before.items() if name in after}
        return outcome


@contextmanager
def holding(target: Target, registers: int) -> Iterator[Child]:
    """Keep so many registers signed on; each `expect("ready")` returns when all are (back) there."""
    load = Load(registers, 0.0, Work.HOLD)
    with _child(_job(target, load, 0, 1, bytes(_PREFIX_BYTES), Path())) as child:
        yield child


class Child:
    """A generating process."""

    def __init__(self, job: dict[str, Any]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.generator.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.pid = self._process.pid
        self.say(json.dumps(job))

    def say(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def expect(self, event: str) -> dict[str, Any]:
        """Wait for what it says next, and return it. Raises Trouble when that is something else."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"event": "end", "text": "the generator ended"}
        if told.pop("event") != event:
            raise Trouble(told.get("text", f"the generator said {line!r} instead of {event}"))
        return told

    def end(self) -> None:
        """Let it stop, whatever it does."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def _child(job: dict[str, Any]) -> Iterator[Child]:
    child = Child(job)
    try:
        yield child
    finally:
        child.end()


def _job(target: Target, load: Load, share: int, shares: int, prefix: bytes, latencies: Path) -> dict[str, Any]:
    first = load.registers * share // shares
    return {
        "target": target.to_json(), "load": asdict(load), "prefix": prefix.hex(), "share": share, "shares": shares,
        "first": first, "registers": load.registers * (share + 1) // shares - first, "latencies": str(latencies),
    }  # fmt: skip
