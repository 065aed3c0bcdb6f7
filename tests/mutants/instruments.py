"""What must find a mutant, cheapest first; each runs in a copy of the tree, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from server.engines.processes import descendants
from tests.mutants.catalogue import Mutant

#: The folders in which the suite looks when the tests that a mutant names have found nothing. The contract tests look
#: at the tree itself, and would find every mutant by its name.
FOLDERS = ("tests/unit", "tests/property", "tests/faults", "tests/integration")
_PYTEST_FAILED = 1
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
# The test that pytest-timeout ended the whole run in is the last one that has a line without its result.
_TIMEOUT = "+++ Timeout +++"
_HUNG = re.compile(r"^(tests/\S+::\S+)(?!.*(?:PASSED|SKIPPED))[^\n]*$", re.MULTILINE)
# How a breach begins in a verdict of tests/judge, and an exception in a traceback.
_BREACH = re.compile(r"^[a-z_]+ \(\d+\): ")
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception|Failed|Down)\b")
_WORDS_MAX = 150
_SIMULATOR_HANGS_S = 60.0
_ROUNDS_AT_ONCE = 5
_ROUND_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What an instrument says of a tree: whether it found something, what, and after how many seconds."""

    instrument: str
    caught: bool
    words: str
    seconds: float


class BrokenInstrument(Exception):  # noqa: N818 - it says what is the matter
    """An instrument could not be run, so it says nothing about any mutant."""


class Instrument(Protocol):
    """One way to look for bugs."""

    name: str

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Look at a tree with a mutant in it. Raises BrokenInstrument."""

    def control(self, tree: Path, mutants: Sequence[Mutant]) -> Finding:
        """Look at the tree without a mutant, as hard as at these mutants at the least. Raises BrokenInstrument."""


class Simulator:
    """`python -m tests.simulator`: scenario after scenario of faults on modelled engines, the same ones in every run.

    A breach counts when the tree without a mutant comes through the very same scenario.
    """

    name = "simulator"

    def __init__(self, first_seed: int, minutes: float, control_minutes: float, jobs: int) -> None:
        self._first_seed = first_seed
        self._minutes = minutes
        self._control_minutes = control_minutes
        self._jobs = jobs
        self._unmutated: Path | None = None

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Simulate until a promise is broken that is kept without the mutant."""
        del mutant
        seed, left, seconds = self._first_seed, self._minutes, 0.0
        while left > 0:
            found, seeds, output = self._play(tree, seed, left)
            seconds += found.seconds
            if not found.caught:
                break
            for broken in seeds:
                if self._unmutated is None or not self._play_one(self._unmutated, broken):
                    return Finding(self.name, True, _breach(output, broken), round(seconds, 1))
            if not seeds:
                return Finding(self.name, True, found.words, round(seconds, 1))
            seed, left = max(seeds) + 1, left - found.seconds / 60
        return Finding(self.name, False, found.words, round(seconds, 1))

    def control(self, tree: Path, mutants: Sequence[Mutant]) -> Finding:
        """Simulate for a while without a mutant."""
        del mutants
        self._unmutated = tree
        found, seeds, output = self._play(tree, self._first_seed, self._control_minutes)
        return Finding(self.name, True, _breach(output, seeds[0]), found.seconds) if seeds else found

    def _play(self, tree: Path, first: int, minutes: float) -> tuple[Finding, list[int], str]:
        command = ["--first", str(first), "--minutes", str(minutes), "--jobs", str(self._jobs)]
        code, output, seconds = run(["-m", "tests.simulator", *command], tree, minutes * 60 + _SIMULATOR_HANGS_S)
        if code is None:
            # A decision that never ends stands still for all of the simulated world.
            return Finding(self.name, True, "a scenario does not end", seconds), [], output
        told = _json_of(output)
        if code not in (0, 1) or told is None:
            raise BrokenInstrument(f"the simulator ended with {code}: {last_line(output)}")
        words = f"{told['scenarios']} scenarios, {told['broken']} broken"
        return Finding(self.name, code != 0, words, seconds), sorted(told["broken_seeds"]), output

    def _play_one(self, tree: Path, seed: int) -> bool:
        """Return whether a scenario breaks a promise."""
        code, output, _ = run(["-m", "tests.simulator", "--seed", str(seed)], tree, _SIMULATOR_HANGS_S)
        if code not in (0, 1):
            raise BrokenInstrument(f"scenario {seed} without a mutant ended with {code}: {last_line(output)}")
        return code == 1


def _breach(output: str, seed: int) -> str:
    """Return what the simulator said of a scenario: the kind of breach, or what was raised."""
    _, _, told = output.partition(f"seed {seed}: ")
    lines = [line.strip() for line in told.split("repeat it with", 1)[0].splitlines()[1:] if line.strip()]
    # Of a traceback the last line says what is the matter; of a verdict the first one does.
    verdict = next((line for line in lines if _BREACH.match(line)), None)
    unhandled = next((line for line in lines if _RAISED.match(line)), None)
    return f"seed {seed}: {verdict or unhandled or (lines or ['broken'])[0]}"[:_WORDS_MAX]


class Suite:
    """pytest: first the tests that a mutant names, then whole folders."""

    name = "suite"

    def __init__(self, named_minutes: float, folders_minutes: float, *, wide: bool) -> None:
        self._named_minutes = named_minutes
        self._folders_minutes = folders_minutes
        self._wide = wide
        self._folders_control: Finding | None = None
        self._unmutated: Path | None = None
        # Mutants are looked at by several threads, and the tree without one needs to be looked at once.
        self._lock = Lock()

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Run tests until one fails."""
        found = self._run(tree, mutant.tests, self._named_minutes)
        if found.caught or not self._wide or self._unmutated is None:
            return found
        with self._lock:
            if self._folders_control is None:
                self._folders_control = self._run(self._unmutated, FOLDERS, self._folders_minutes)
        if self._folders_control.caught:
            raise BrokenInstrument(f"the suite fails without a mutant: {self._folders_control.words}")
        wide = self._run(tree, FOLDERS, self._folders_minutes)
        return Finding(self.name, wide.caught, wide.words, found.seconds + wide.seconds)

    def control(self, tree: Path, mutants: Sequence[Mutant]) -> Finding:
        """Run all tests that these mutants name."""
        self._unmutated = tree
        return self._run(tree, sorted({test for mutant in mutants for test in mutant.tests}), self._folders_minutes)

    def _run(self, tree: Path, tests: Iterable[str], minutes: float) -> Finding:
        options = ["-x", "-v", "--no-header", "-p", "no:cacheprovider", "--timeout", "60"]
        code, output, seconds = run(["-m", "pytest", *options, *tests], tree, minutes * 60)
        if code is None:
            return Finding(self.name, True, f"did not end within {minutes:g} minutes", seconds)
        failed = _FAILED.search(output) or (_HUNG.search(output) if _TIMEOUT in output else None)
        if code not in (0, _PYTEST_FAILED) or (code and "error" in last_line(output) and not failed):
            raise BrokenInstrument(f"pytest ended with {code}: {last_line(output)}")
        words = failed[1] + (" hangs" if _TIMEOUT in output else "") if failed else last_line(output)
        return Finding(self.name, code != 0, words.removeprefix("tests/"), seconds)


class Campaign:
    """`python -m tests.campaign`: real processes, killed, frozen and cut off under load."""

    name = "campaign"

    def __init__(self, seed: int, rounds: int) -> None:
        self._seed = seed
        self._rounds = rounds

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Run a few rounds at a time until a promise is broken."""
        del mutant
        seconds = 0.0
        for first in range(0, self._rounds, _ROUNDS_AT_ONCE):
            found = self._run(tree, self._seed + first)
            seconds += found.seconds
            if found.caught:
                return Finding(self.name, True, found.words, round(seconds, 1))
        return Finding(self.name, False, f"{self._rounds} rounds", round(seconds, 1))

    def control(self, tree: Path, mutants: Sequence[Mutant]) -> Finding:
        """Run a few rounds without a mutant."""
        del mutants
        return self._run(tree, self._seed)

    def _run(self, tree: Path, seed: int) -> Finding:
        command = ["-m", "tests.campaign", "--seed", str(seed), "--rounds", str(_ROUNDS_AT_ONCE)]
        code, output, seconds = run(command, tree, _ROUNDS_AT_ONCE * _ROUND_S_MAX)
        if code is None:
            return Finding(self.name, True, "the campaign does not end", seconds)
        if code not in (0, 1) or _json_of(output) is None:
            raise BrokenInstrument(f"the campaign ended with {code}: {last_line(output)}")
        verdict = next((line.strip() for line in output.splitlines() if _BREACH.match(line.strip())), "no breach")
        return Finding(self.name, code != 0, verdict[:_WORDS_MAX], seconds)


def _json_of(output: str) -> dict[str, Any] | None:
    """Return the object of the last line that is one."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            with suppress(ValueError):
                found = json.loads(line)
                return found if isinstance(found, dict) else None
    return None


def run(arguments: Sequence[str], tree: Path, timeout_s: float) -> tuple[int | None, str, float]:
    """Run Python on the tree's own sources; return exit code (None = it did not end in time), output and seconds."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            output, _ = process.communicate()
            code = None
    return code, output, round(time.monotonic() - began, 1)


def _kill(pid: int) -> None:
    for one in (pid, *descendants(pid)):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def last_line(output: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:_WORDS_MAX] if lines else "nothing"
