"""What people type at the till becomes exact integers, or a sentence."""

import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import INT_MAX, CardKind
from protocol.requests import Card
from server.till import input as till_input
from server.till.input import BadInput


@pytest.mark.parametrize(
    ("typed", "minor"),
    [("12.50", 1250), ("12.5", 1250), ("12", 1200), ("0", 0), ("0.07", 7), ("12,50", 1250), (" 3 ", 300), ("007", 700)],
)
def test_points(typed: str, minor: int) -> None:
    assert till_input.points(typed) == minor


@pytest.mark.parametrize(
    "typed", ["", ".", "1.", ".5", "1.234", "-1", "+1", "1e3", "1 000", "1.2.3", "nan", "१", "9" * 17]
)
def test_what_is_no_amount_of_points(typed: str) -> None:
    with pytest.raises(BadInput):
        till_input.points(typed)


@given(st.integers(0, INT_MAX), st.sampled_from([0, 2, 3]))
def test_typing_what_was_printed_gives_the_same_number(minor: int, digits: int) -> None:
    assert till_input.minor_units(till_input.decimal(minor, digits), digits) == minor


def test_currencies_have_their_own_minor_units() -> None:
    assert till_input.money("268.28", "EUR") == 26828
    assert till_input.money("268", "JPY") == 268
    assert till_input.money("1.234", "KWD") == 1234
    with pytest.raises(BadInput):
        till_input.money("1.5", "JPY")
    assert till_input.money_text(26828, "EUR") == "268.28 EUR"
    assert till_input.money_text(268, "JPY") == "268 JPY"
    assert till_input.decimal(-5) == "-0.05"


@pytest.mark.parametrize(
    ("typed", "kind", "value"),
    [
        ("2000000000015", CardKind.EAN13, "2000000000015"),
        ("9643100000000010", CardKind.PAN, "9643100000000010"),
        ("+4915112345678", CardKind.PHONE, "+4915112345678"),
        (";9643100000000010=2912?", CardKind.TRACK, ";9643100000000010=2912?"),
        ("%B9643100000000010^A^2912?", CardKind.TRACK, "%B9643100000000010^A^2912?"),
        ("virtual:wallet-7Hq2ZkP0", CardKind.VIRTUAL, "wallet-7Hq2ZkP0"),
        ("EAN13:2000000000015", CardKind.EAN13, "2000000000015"),
        ("2000000000016", CardKind.EAN13, "2000000000016"),
    ],
)
def test_cards(typed: str, kind: CardKind, value: str) -> None:
    assert till_input.card(typed) == Card(kind, value)


@pytest.mark.parametrize("typed", ["", "123", "wallet-7Hq2ZkP0", "gift:123", "20000000000150"])
def test_what_is_no_card(typed: str) -> None:
    with pytest.raises(BadInput):
        till_input.card(typed)


def test_request_ids() -> None:
    wanted = uuid.UUID("0197c0de-0000-7000-8000-000000000001")
    assert till_input.request_id(str(wanted)) == wanted.bytes
    assert till_input.request_id(wanted.hex) == wanted.bytes
    assert till_input.id_text(wanted.bytes) == str(wanted)
    with pytest.raises(BadInput):
        till_input.request_id("0197")


def test_the_first_terminal_of_the_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "terminals.toml").write_text('[terminals.T-7]\nsecret = "seven"\n[terminals.T-1]\nsecret = "one"\n')
    first = till_input.terminal(tmp_path, None, None)
    assert (first.terminal_id, first.secret) == ("T-7", "seven")
    assert till_input.terminal(tmp_path, "T-1", None).secret == "one"
    (tmp_path / "secret").write_text("of a file\n")
    assert till_input.terminal(tmp_path, "T-9", tmp_path / "secret").secret == "of a file"
    assert "seven" not in repr(first)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, None),
        ("", None),
        ('[terminals.T-1]\nsecret = "x"', "T-2"),
        ("[terminals", None),
        ("[terminals.T-1]", None),
    ],
)
def test_terminals_that_are_not_known(tmp_path: Path, content: str | None, wanted: str | None) -> None:
    if content is not None:
        (tmp_path / "terminals.toml").write_text(content)
    with pytest.raises(BadInput):
        till_input.terminal(tmp_path, wanted, None)


def test_a_secret_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        till_input.terminal(tmp_path, "T-1", tmp_path / "missing")
