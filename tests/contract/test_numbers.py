"""The ledger and the wire know nothing of each other, yet their numbers travel through both and must be the same."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from ledger import operations
from ledger.submission import Refusal
from ledger.truth import Standing
from protocol import codes

LUA = Path(__file__).parents[2] / "ledger" / "lua"


def numbers(enum: type[IntEnum]) -> dict[str, int]:
    return {member.name: int(member) for member in enum}


def lua_numbers(name: str) -> dict[str, int]:
    text = (LUA / f"{name}.lua").read_text("utf-8")
    return {key: int(value) for key, value in re.findall(r"^\s+([A-Z_]+) = (\d+)", text, re.MULTILINE)}


def test_outcomes_are_the_same() -> None:
    assert numbers(operations.Outcome) == numbers(codes.Outcome)


def test_operations_of_the_wire_are_the_ledgers() -> None:
    wire = {m.name: int(m) for m in codes.Message if codes.OPERATION_FIRST <= m <= codes.OPERATION_LAST}
    assert wire.items() <= numbers(operations.Operation).items()


def test_refusals_are_errors_of_the_wire() -> None:
    assert numbers(Refusal).items() <= numbers(codes.ErrorCode).items()


def test_what_became_of_a_request_has_one_set_of_numbers() -> None:
    assert numbers(Standing) == numbers(codes.StatusState)


@pytest.mark.parametrize(("name", "enum"), [("outcomes", operations.Outcome), ("operations", operations.Operation)])
def test_lua_uses_the_same_numbers(name: str, enum: type[IntEnum]) -> None:
    assert lua_numbers(name)
    assert lua_numbers(name).items() <= numbers(enum).items()
