"""What leaves in a CSV file is no formula to a spreadsheet, and comes in again as it was."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.moving.exporting import _File
from server.moving.formulas import bare, guarded
from server.moving.reading import opened


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1-1", "-sms", "+", "\t=1", "\r=1", "-5+cmd|' /C calc'!A0"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Anna", "+4915111111111", "-5", "-5.25", "'tis", "2026-12-31", "a=1", "'"])
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert guarded(text) == bare(text) == text


@given(st.text(alphabet="'=+-@\t\r1a.", max_size=8) | st.text())
def test_nothing_is_lost_on_the_way_out_and_in(text: str) -> None:
    assert bare(guarded(text)) == text
    assert not guarded(text).startswith(("=", "@", "\t", "\r"))


def test_an_exported_cell_is_guarded_and_read_as_it_was(tmp_path: Path) -> None:
    values = ("=HYPERLINK(1)", "+4915111111111", '-a, "quoted"', "'=x", "")
    with _File(tmp_path / "file.csv", lambda *_: None, lambda: None) as file:
        file.title("abcde")
        file.add(dict(zip("abcde", values, strict=True)))
    assert "'=HYPERLINK(1),+4915111111111," in (tmp_path / "file.csv").read_text("utf-8")
    (row,) = opened(tmp_path / "file.csv", encoding=None, delimiter=None, sheet=None).rows()
    assert tuple(row.cells) == values
