"""What must find a mutant, cheapest first; each runs in a copy of the tree, in a process of its own."""

from __future__ import annotations

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
from typing import Protocol

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
_WORDS_MAX = 110


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
    """`python -m tests.simulator`: many years of faults on modelled engines."""

    name = "simulator"

    def __init__(self, minutes: float, control_minutes: float) -> None:
        self._minutes = minutes
        self._control_minutes = control_minutes

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Simulate until a promise is broken."""
        del mutant
        return self._run(tree, self._minutes)

    def control(self, tree: Path, mutants: Sequence[Mutant]) -> Finding:
        """Simulate for a while without a mutant."""
        del mutants
        return self._run(tree, self._control_minutes)

    def _run(self, tree: Path, minutes: float) -> Finding:
        command = ["-m", "tests.simulator", "--minutes", str(minutes)]
        code, output, seconds = run(command, tree, minutes * 60 + 60)
        if code not in (0, 1, None):
            raise BrokenInstrument(f"the simulator ended with {code}: {last_line(output)}")
        return Finding(self.name, code != 0, breach_in(output), seconds)


class Suite:
    """pytest: first the tests that a mutant names, then whole folders."""

    name = "suite"

    def __init__(self, named_minutes: float, folders_minutes: float, *, wide: bool) -> None:
        self._named_minutes = named_minutes
        self._folders_minutes = folders_minutes
        self._wide = wide
        self._folders_control: Finding | None = None
        self._unmutated: Path | None = None

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Run tests until one fails."""
        found = self._run(tree, mutant.tests, self._named_minutes)
        if found.caught or not self._wide or self._unmutated is None:
            return found
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

    def __init__(self, rounds: int, minutes: float) -> None:
        self._rounds = rounds
        self._minutes = minutes

    def look(self, tree: Path, mutant: Mutant) -> Finding:
        """Run the campaign until a promise is broken."""
        del mutant
        return self._run(tree)

    def control(self, tree: Path, mutants: Sequence[Mutant]) -> Finding:
        """Run the same without a mutant."""
        del mutants
        return self._run(tree)

    def _run(self, tree: Path) -> Finding:
        command = ["-m", "tests.campaign", "--rounds", str(self._rounds)]
        code, output, seconds = run(command, tree, self._minutes * 60)
        if code not in (0, 1, None):
            raise BrokenInstrument(f"the campaign ended with {code}: {last_line(output)}")
        return Finding(self.name, code != 0, breach_in(output), seconds)


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


def breach_in(output: str) -> str:
    """Return the line that names the first broken promise, or the last line."""
    for line in output.splitlines():
        if "broken" in line or "breach" in line:
            return line.strip()[:_WORDS_MAX]
    return last_line(output)
