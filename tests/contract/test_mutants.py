"""Every planted bug still applies to the tree, changes what the tree does, and names who must find it.

So a change of the code cannot disarm a mutant unnoticed: refresh the patch by hand, or plant the bug where it is now.
"""

import ast
import re
import shutil
from pathlib import Path

import lupa.lua51
import pytest

from tests.mutants.catalogue import CHECKOUT, BadPatch, Mutant, apply, catalogue

MUTANTS = catalogue()
FILE = re.compile(r"^--- a/(\S+)$", re.MULTILINE)
COMMENT = re.compile(r"--.*")


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def code_of(path: Path) -> str:
    """What of a file is not comment, docstring or layout; it must be able to be compiled."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return ast.dump(_WithoutDocstrings().visit(ast.parse(text)))
    if path.suffix == ".lua":
        lupa.lua51.LuaRuntime().compile(text)
    return " ".join(COMMENT.sub("", text).split())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_patch_applies_and_changes_code(mutant: Mutant, tmp_path: Path) -> None:
    paths = FILE.findall(mutant.file.read_text("utf-8"))
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / path, tmp_path / path)
    apply(mutant, tmp_path)
    assert [path for path in paths if code_of(tmp_path / path) == code_of(CHECKOUT / path)] == []
    assert [path for path in paths if path.startswith("tests/")] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_file_says_who_must_find_it(mutant: Mutant) -> None:
    assert mutant.found_by
    assert [test for test in mutant.tests if not (CHECKOUT / test).exists()] == []
    # What only real engines can show, a simulation on models of them cannot be asked for.
    assert not (mutant.real_engines and "simulator" in mutant.found_by)


def test_the_mutants_cover_promises_and_languages() -> None:
    breaks = ", ".join(mutant.breaks for mutant in MUTANTS)
    assert [promise for promise in range(1, 11) if not re.search(rf"P{promise}\b", breaks)] == []
    touched = {Path(path).suffix for mutant in MUTANTS for path in FILE.findall(mutant.file.read_text("utf-8"))}
    assert touched == {".lua", ".py", ".sql"}
    assert len(MUTANTS) >= 20


def test_a_patch_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger/lua").mkdir(parents=True)
    (tmp_path / "ledger/lua/decide.lua").write_text("return {}\n")
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "ring_ignored")
    with pytest.raises(BadPatch, match="ring_ignored"):
        apply(mutant, tmp_path)
