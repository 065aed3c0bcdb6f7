"""The planted bugs: what each file of this folder says about its own, and copies of the tree with one of them in it.

A mutant is a unified diff under some lines of prose: a title, a sentence on the bug, and named lines,

    Breaks: the promises
    Like: the known failure that it is modelled on
    Engines: any, or real when only real engines can show it
    Found by: the instruments that must find it (simulator, suite, campaign)
    Tests: where the suite begins to look
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
INSTRUMENTS = ("simulator", "suite", "campaign")
_NAMED = ("Breaks", "Like", "Engines", "Found by", "Tests")
#: What a copy does without: not part of the project, and some of it large.
_LEFT_OUT = ("data", "build", "htmlcov", "__pycache__", "*.egg-info")


class BadPatch(Exception):  # noqa: N818 - it says what is the matter
    """A mutant's file is not what it should be, or does not apply to the tree."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    file: Path
    title: str
    breaks: str
    like: str
    real_engines: bool
    found_by: tuple[str, ...]
    tests: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> Mutant:
        """Read a mutant's file. Raises BadPatch."""
        head, _, diff = file.read_text("utf-8").partition("\n--- a/")
        lines = head.splitlines()
        named = dict(line.split(": ", 1) for line in lines if line.partition(": ")[0] in _NAMED)
        missing = [name for name in _NAMED if not named.get(name)]
        found_by = tuple(named.get("Found by", "").split(", "))
        if missing or not diff or set(found_by) - set(INSTRUMENTS) or named["Engines"] not in ("any", "real"):
            raise BadPatch(f"{file.name}: {'no ' + ', '.join(missing) if missing else 'not as catalogue.py says'}")
        return cls(
            file.stem,
            file,
            lines[0],
            named["Breaks"],
            named["Like"],
            named["Engines"] == "real",
            found_by,
            tuple(named["Tests"].split()),
        )


def catalogue() -> list[Mutant]:
    """Return all mutants by name. Raises BadPatch."""
    return [Mutant.read(file) for file in sorted(FOLDER.glob("*.patch"))]


def copy_tree(source: Path, to: Path) -> Path:
    """Copy a checkout as it stands, with what is not committed and without git's own files."""
    shutil.copytree(source, to, ignore=lambda folder, names: _ignored(Path(folder) == source, names), symlinks=True)
    return to


def _ignored(at_top: bool, names: list[str]) -> set[str]:
    hidden = {name for name in names if at_top and name.startswith(".")}
    return hidden | set(shutil.ignore_patterns(*(_LEFT_OUT if at_top else ("__pycache__",)))("", names))


def apply(mutant: Mutant, tree: Path) -> None:
    """Plant the bug. Raises BadPatch when the tree is not (any more) what it was made for."""
    # The tree need not be a repository, but may lie within one, which is none of its business.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent), "GIT_DIR": str(tree / "no-repository")}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(mutant.file)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BadPatch(f"{mutant.name}: {done.stderr.strip()}")
