"""Reads the rows of a CSV or XLSX file with the place of each, whatever is wrong with some of them."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from python_calamine import CalamineError, CalamineWorkbook

from server.errors import OperatorError, UsageError
from server.moving.encodings import DELIMITERS, found_delimiter, found_encoding, known_delimiter, known_encoding
from server.moving.formulas import bare

_WORKBOOK_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_CELL_CHARACTERS_MAX = 1 << 20
_LINE_CHARACTERS_MAX = 1 << 24
_LINE_ENDS = ("\n", "\r")
#: A workbook is a ZIP archive, and may say in a megabyte what takes the memory of the whole host.
_WORKBOOK_BYTES_MAX = 1 << 30

#: What a cell holds: text, or with a workbook a number, a truth value, a date or a time.
Cell = Any


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in the file: its first line in a text, its row in a sheet; `fault` if it cannot be read."""

    line: int
    cells: Sequence[Cell]
    fault: str = ""


class Table:
    """A file with a header. `description` tells how it is read, `header` what its columns are called.

    `delimiter` is what stands between the columns of a text.
    """

    def __init__(self, description: str, rows: Iterator[RawRow], size: int, delimiter: str = ",") -> None:
        """Take the rows, the header among them, and about how much there is to read, in whatever unit."""
        self.description = description
        self.size = size
        self.delimiter = delimiter
        self._rows = rows
        for row in rows:
            if any(as_text(cell) for cell in row.cells):
                self.header = [as_text(cell) for cell in row.cells]
                # A table often ends in columns without a name or content.
                while self.header and not self.header[-1]:
                    self.header.pop()
                self.header_line = row.line
                return
        raise OperatorError("the file is empty: its first row must name the columns")

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows below the header once; rows without any content are left out."""
        width = len(self.header)
        for row in self._rows:
            if row.fault:
                yield row
                continue
            if not any(as_text(cell) for cell in row.cells):
                continue
            cells = list(row.cells)
            while len(cells) > width and not as_text(cells[-1]):
                cells.pop()
            fault = "" if len(cells) == width else f"has {len(cells)} columns, the header has {width}"
            yield RawRow(row.line, cells, fault)


def opened(file: Path, *, encoding: str | None, delimiter: str | None, sheet: str | None) -> Table:
    """Open a file; what is None is found out. Raises OperatorError."""
    try:
        with file.open("rb") as stream:
            magic = stream.read(4)
        if magic in _WORKBOOK_MAGIC:
            if encoding or delimiter:
                raise UsageError(f"{file} is a workbook: it has neither --encoding nor --delimiter")
            return _workbook(file, sheet)
        if sheet is not None:
            raise UsageError(f"{file} is no workbook: it has no --sheet")
        return _text(file, encoding, delimiter)
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}") from None


def _text(file: Path, encoding: str | None, delimiter: str | None) -> Table:
    code = known_encoding(encoding) if encoding else found_encoding(file)
    if code == "utf-8":
        # A mark at the begin is no part of the first column's name.
        code = "utf-8-sig"
    cut = known_delimiter(delimiter) if delimiter else found_delimiter(file, code)
    shown = "utf-8" if code == "utf-8-sig" else code
    size = file.stat().st_size
    return Table(f"CSV, {shown}, delimiter {DELIMITERS[cut]}", _text_rows(file, code, cut), size, cut)


def _text_rows(file: Path, encoding: str, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(_CELL_CHARACTERS_MAX)
    # Bytes that are none of this encoding stay recognisable, so that one bad row does not end the rest.
    with _open_text(file, encoding) as stream:
        taken: list[str] = []
        reader = csv.reader(_noted(stream, taken), delimiter=delimiter)
        line, width = 1, 0
        while True:
            taken.clear()
            try:
                cells, fault = next(reader), ""
                if any("'" in text for text in taken):
                    cells = [bare(cell) for cell in cells]
            except StopIteration:
                return
            except csv.Error as error:
                cells, fault = [], f"cannot be read: {error}"
            except UnicodeError as error:
                yield RawRow(line, [], f"cannot be read: {error}")
                return
            lines = [next(csv.reader([text], delimiter=delimiter), []) for text in taken] if len(taken) > 1 else []
            width = width or (len(cells) if any(cells) else 0)
            if lines and (fault or len(cells) != width or any(len(row) == width for row in lines[1:])):
                # A quotation mark that nobody closed must not swallow the rows below it.
                yield RawRow(line, lines[0], "has a quotation mark that is not closed")
                for number, row in enumerate(lines[1:], start=line + 1):
                    yield RawRow(number, row, _foreign(row))
            else:
                yield RawRow(line, cells, fault or _foreign(cells))
            line += len(taken)


def _noted(stream: TextIO, taken: list[str]) -> Iterator[str]:
    while text := stream.readline(_LINE_CHARACTERS_MAX):
        # What goes on and on is no row: its beginning is rejected, its end is not even kept.
        while len(text) >= _LINE_CHARACTERS_MAX and not text.endswith(_LINE_ENDS):
            rest = stream.readline(_LINE_CHARACTERS_MAX)
            if not rest or rest.endswith(_LINE_ENDS):
                text += "\n"
        taken.append(text)
        yield text


def _foreign(cells: Sequence[str]) -> str:
    return "" if all(map(_is_text, cells)) else "has bytes that are not of the file's encoding"


def _open_text(file: Path, encoding: str) -> TextIO:
    return file.open(encoding=encoding, errors="surrogateescape", newline="")


def _is_text(cell: str) -> bool:
    return cell.isascii() or not any("\ud800" <= character <= "\udfff" for character in cell)


def _workbook(file: Path, sheet: str | None) -> Table:
    _check_size(file)
    try:
        book = CalamineWorkbook.from_path(str(file))
        names = book.sheet_names
        if sheet is not None and sheet not in names:
            raise UsageError(f"{file} has no sheet {sheet!r}; it has {', '.join(names)}")
        if not names:
            raise OperatorError(f"{file} has no sheet")
        name = sheet if sheet is not None else names[0]
        read = book.get_sheet_by_name(name)
    except CalamineError as error:
        raise OperatorError(f"{file} cannot be read as a workbook: {error}") from None
    more = "" if len(names) == 1 else f" of {len(names)}"
    return Table(f"workbook, sheet {name!r}{more}", _sheet_rows(read), read.total_height)


def _check_size(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError):
        # Workbooks of an older form are no archives; what is broken is told by whoever reads it.
        return
    if size > _WORKBOOK_BYTES_MAX:
        raise OperatorError(f"{file} unpacks to {size:,} bytes, more than {_WORKBOOK_BYTES_MAX:,}: save it as CSV")


def _sheet_rows(sheet: Any) -> Iterator[RawRow]:
    first = sheet.start[0] if sheet.start else 0
    # The area may begin below empty rows; what is counted is what Excel shows at the left.
    for row, cells in enumerate(sheet.to_python(skip_empty_area=True), start=first + 1):
        yield RawRow(row, cells)


def as_text(cell: Cell) -> str:
    """Return a cell as text without surrounding space: of a day its ISO form, of a number what a spreadsheet shows.

    That is 15 digits at most: the rest is not the number, but how it lies in the memory.
    """
    if type(cell) is str:
        return cell.strip()
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else format(cell, ".15g")
    if hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    return str(cell)
