"""Each statement of ledger/sql/registry/ is asked for by its name somewhere, and each says what its parameters are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.registry.statements import statements

ROOT = Path(__file__).parents[2]
SUBJECTS = sorted(file.stem for file in (ROOT / "ledger/sql/registry").glob("*.sql"))
#: Who names the statements that a module only passes on.
NAMED_BY = {"export": ["server/moving/exporting.py"]}


def names(tree: ast.AST) -> Iterator[str]:
    """Yield all strings of a module as patterns; what an f-string puts in may be any word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else None for part in node.values)
            yield "".join(r"\w+" if part is None else re.escape(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.escape(node.value)


def asked_for(subject: str) -> list[str]:
    texts = [file.read_text("utf-8") for file in (ROOT / "ledger").rglob("*.py")]
    texts = [text for text in texts if f'statements("{subject}")' in text]
    assert texts, "nobody asks for this file"
    texts += [(ROOT / path).read_text("utf-8") for path in NAMED_BY.get(subject, [])]
    return [pattern for text in texts for pattern in names(ast.parse(text))]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_statement_is_used(subject: str) -> None:
    patterns = [pattern for pattern in asked_for(subject) if pattern != r"\w+"]
    unused = [name for name in statements(subject) if not any(re.fullmatch(p, name) for p in patterns)]
    assert unused == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_parameter_is_explained(subject: str) -> None:
    for name, sql in statements(subject).items():
        comments = " ".join(line for line in sql.splitlines() if line.startswith("--"))
        if re.search(r"As `\w+`", comments) or re.search(r"Like `\w+`", comments):
            continue
        body = " ".join(line for line in sql.splitlines() if not line.startswith("--"))
        missing = set(re.findall(r"\$\d+", body)) - set(re.findall(r"\$\d+", comments))
        assert missing == set(), f"{subject}.{name}"
