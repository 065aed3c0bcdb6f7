import zipfile
from datetime import date
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from server.errors import OperatorError, UsageError
from server.moving import reading
from server.moving.columns import Kind, mapped
from server.moving.reading import Table, opened

RUSSIAN = "Код клиента;Имя;Фамилия;Дата рождения\n1;Алёна;Щукина;31.12.1990\n2;Юрий;Кузнецов;01.02.1980\n"
EPOCH = date(1899, 12, 30)


def read(file: Path, **options: Any) -> Table:
    given = {"encoding": None, "delimiter": None, "sheet": None, **options}
    return opened(file, **given)


def workbook(file: Path, *sheets: tuple[str, list[list[Any]]], first_row: int = 1) -> Path:
    """Write a workbook: text as inline strings, numbers as numbers, dates as Excel's days with a date's format."""
    with zipfile.ZipFile(file, "w") as book:
        kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
        parts = [("/xl/workbook.xml", "sheet.main"), ("/xl/styles.xml", "styles")]
        parts += [(f"/xl/worksheets/s{i}.xml", "worksheet") for i in range(len(sheets))]
        overrides = "".join(f'<Override PartName="{p}" ContentType="{kinds}.{k}+xml"/>' for p, k in parts)
        book.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" '
            f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{overrides}</Types>',
        )
        office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        relations = "http://schemas.openxmlformats.org/package/2006/relationships"
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        names = "".join(
            f'<sheet name="{escape(name)}" sheetId="{i + 1}" r:id="r{i}"/>' for i, (name, _) in enumerate(sheets)
        )
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>'
        )
        targets = "".join(
            f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="worksheets/s{i}.xml"/>'
            for i in range(len(sheets))
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{relations}">{targets}<Relationship Id="rs" Type="{office}/styles" '
            'Target="styles.xml"/></Relationships>',
        )
        book.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{main}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/>'
            "</cellXfs></styleSheet>",
        )
        for i, (_, rows) in enumerate(sheets):
            body = "".join(
                f'<row r="{r}">{"".join(cell(r, c, value) for c, value in enumerate(row))}</row>'
                for r, row in enumerate(rows, start=first_row)
            )
            book.writestr(
                f"xl/worksheets/s{i}.xml", f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
            )
    return file


def cell(row: int, column: int, value: Any) -> str:
    place = f"{chr(ord('A') + column)}{row}"
    if value is None:
        return ""
    if isinstance(value, date):
        return f'<c r="{place}" s="1"><v>{(value - EPOCH).days}</v></c>'
    if isinstance(value, int | float):
        return f'<c r="{place}"><v>{value!r}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("cp1251", "cp1251"),
        ("koi8-r", "koi8-r"),
        ("cp866", "cp866"),
    ],
)
def test_the_encoding_is_found_and_told(tmp_path: Path, encoding: str, shown: str) -> None:
    file = tmp_path / "members.csv"
    file.write_text(RUSSIAN, encoding=encoding, newline="")
    table = read(file)
    assert table.description == f"CSV, {shown}, delimiter semicolon"
    assert table.header == ["Код клиента", "Имя", "Фамилия", "Дата рождения"]
    assert [row.cells[1] for row in table.rows()] == ["Алёна", "Юрий"]


def test_western_letters_are_not_taken_for_russian(tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text("id,name\n1,Jürgen Groß aus Köln\n2,Zoë Müller-Lüdenscheidt\n" * 5, encoding="cp1252")
    assert next(read(file).rows()).cells[1].startswith("Jürgen Gro")


def test_an_encoding_that_is_asked_for_is_used(tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text("id;имя\n1;Ян\n", encoding="cp866")
    assert read(file, encoding="CP866").header == ["id", "имя"]
    with pytest.raises(UsageError, match="unknown"):
        read(file, encoding="klingon")


def test_one_broken_line_does_not_make_another_encoding_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_bytes("id;имя\n1;Анна\n".encode() + b"2;\xc0\xed\xed\xe0\n" + "3;Олег\n".encode())
    rows = list(read(file).rows())
    assert [row.fault for row in rows] == ["", "has bytes that are not of the file's encoding", ""]


@pytest.mark.parametrize(("delimiter", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_the_delimiter_is_found_though_others_stand_in_quotes(tmp_path: Path, delimiter: str, name: str) -> None:
    file = tmp_path / "balances.csv"
    lines = [["id", "points", "note"], ["1", '"1,5"', '"a;b|c,d\te"'], ["2", "7", '"say ""hi"""']]
    file.write_text("\n".join(delimiter.join(line) for line in lines))
    table = read(file)
    assert table.description.endswith(name)
    assert [list(row.cells) for row in table.rows()] == [["1", "1,5", "a;b|c,d\te"], ["2", "7", 'say "hi"']]
    assert read(file, delimiter=name).header == ["id", "points", "note"]


def test_lines_are_those_of_the_file_though_a_cell_has_several(tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text('\nid,name\n\n1,"two\nlines"\n2,b,too much\n3\n4,d,,\n')
    rows = list(read(file).rows())
    assert [(row.line, row.fault) for row in rows] == [
        (4, ""), (6, "has 3 columns, the header has 2"), (7, "has 1 columns, the header has 2"), (8, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("rest", ["", "4,Dee\n", '4,"Dee"\n', "4,Dee\n" * 200_000])
def test_a_quotation_mark_that_is_not_closed_takes_no_row_with_it(tmp_path: Path, rest: str) -> None:
    file = tmp_path / "members.csv"
    file.write_text('id,name\n1,Ann\n2,"Bo\n3,Cy\n' + rest)
    rows = list(read(file).rows())
    assert len(rows) == 3 + rest.count("\n")
    assert [(row.line, row.fault) for row in rows if row.fault] == [(3, "has a quotation mark that is not closed")]
    assert [list(row.cells) for row in rows[2:4]] == [["3", "Cy"], ["4", "Dee"]][: len(rows) - 2]


def test_a_workbook_keeps_numbers_dates_and_the_rows_that_excel_shows(tmp_path: Path) -> None:
    rows = [
        ["card", "points", "expires"],
        [2000000000015.0, 12.5, date(2026, 12, 31)],
        [None, None, None],
        ["x", 3, "31.12.2026"],
    ]
    file = workbook(tmp_path / "balances.xlsx", ("Sheet", rows), ("Other", [["id"], ["7"]]), first_row=3)
    table = read(file)
    assert table.description == "workbook, sheet 'Sheet' of 2"
    assert [(row.line, list(row.cells)) for row in table.rows()] == [
        (4, [2000000000015.0, 12.5, date(2026, 12, 31)]), (6, ["x", 3.0, "31.12.2026"]),
    ]  # fmt: skip
    assert read(file, sheet="Other").header == ["id"]
    for wrong in ({"sheet": "None"}, {"encoding": "utf-8"}, {"delimiter": "comma"}):
        with pytest.raises(UsageError):
            read(file, **wrong)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("\n \n")
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04 and nothing more")
    for name, why in (("empty.csv", "empty"), ("broken.xlsx", "workbook"), ("nowhere.csv", "cannot be read")):
        with pytest.raises(OperatorError, match=why):
            read(tmp_path / name)


def test_columns_are_known_by_their_names_in_both_languages() -> None:
    russian = mapped(Kind.MEMBERS, ["Код клиента", "ИМЯ", "E-Mail", "Дата_рождения", "consent:sms", "account"], None)
    assert russian.positions == {"external_id": 0, "given_name": 1, "email": 2, "birthday": 3, "consent:sms": 4}
    assert russian.shown()[-1] == ("account", "left out")
    cards = mapped(Kind.CARDS, ["Номер карты", "Статус"], None)
    assert cards.positions == {"number": 0, "status": 1}


@pytest.mark.parametrize(
    ("kind", "header", "why"),
    [
        (Kind.CARDS, ["number", "colour"], "not known in cards: 'colour'; the file has 'number', 'colour'"),
        (Kind.CARDS, ["status"], "missing: number; the file has 'status'"),
        (Kind.BALANCES, ["points"], "missing: external_id or number"),
        (Kind.CARDS, ["number", "card"], "'card' is number like 'number'"),
        (Kind.CARDS, ["number", "Number"], "more than once: 'number'"),
        (Kind.MEMBERS, ["given name"], "missing: external_id"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_by_name(kind: Kind, header: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        mapped(kind, header, None)


def test_a_mapping_file_names_columns_constants_and_the_format(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(
        '[columns]\n"Nr" = "number"\n"Note" = "-"\n[constants]\nstatus = "blocked"\n'
        '[format]\ndates = "%m/%d/%Y"\ndecimal_comma = true\npoints = "minor"\nphone_country = "7"\n'
    )
    columns = mapped(Kind.CARDS, ["NR", "note"], file)
    assert (columns.positions, columns.constants) == ({"number": 0}, {"status": "blocked"})
    assert columns.format.points == "minor"
    assert columns.shown() == [("NR", "number"), ("note", "left out"), ('constant "blocked"', "status")]


def test_one_mapping_file_serves_all_files_of_a_move(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(
        '[columns]\n"Kunde" = "external_id"\n"Karten-Nr" = "number"\n"Werbung" = "consent:mail"\n"Bemerkung" = "-"\n'
        '[constants]\nstatus = "active"\n'
    )
    members = mapped(Kind.MEMBERS, ["Kunde", "Werbung", "Bemerkung"], file)
    assert (members.positions, members.constants) == ({"external_id": 0, "consent:mail": 1}, {})
    cards = mapped(Kind.CARDS, ["Kunde", "Karten-Nr"], file)
    assert (cards.positions, cards.constants) == ({"external_id": 0, "number": 1}, {"status": "active"})
    assert mapped(Kind.BALANCES, ["Kunde", "points"], file).positions == {"external_id": 0, "points": 1}
    with pytest.raises(UsageError, match=r"not known in members: 'Wrbung'.*yours names.*'Werbung'"):
        mapped(Kind.MEMBERS, ["Kunde", "Wrbung"], file)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[colums]\n", "colums"),
        ('[columns]\nnumber = "nonsense"\n', "no field of cards"),
        ('[columns]\nnumber = "-"\nabsent = "number"\n', "'absent', which it does not have"),
        ('[columns]\nnumber = "phone"\n', "no field of cards"),
        ('[format]\npoints = "euros"\n', "points"),
        ("[format]\ndecimal_comma = 1\n", "truth value"),
        ('[format]\ndates = "d.m"\n', "pattern"),
        ('[format]\nphone_country = "+7"\n', "country code"),
        ("[columns\n", "TOML"),
        ("[constants]\nstatus = 1\n", "table of texts"),
    ],
)
def test_a_mapping_file_that_means_nothing_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=why):
        mapped(Kind.CARDS, ["number"], file)


def test_a_line_without_an_end_is_rejected_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LINE_CHARACTERS_MAX", 1_000)
    file = tmp_path / "long.csv"
    file.write_text("a,b\n1,2\n" + "x," * 50_000 + "\n3,4\n" + "y" * 5_000)
    rows = list(opened(file, encoding=None, delimiter=None, sheet=None).rows())
    assert [list(row.cells) for row in (rows[0], rows[2])] == [["1", "2"], ["3", "4"]]
    assert [row.line for row in rows] == [2, 3, 4, 5]
    assert "columns" in rows[1].fault
    assert "columns" in rows[3].fault
    assert len(rows[1].cells) <= 501


def test_a_workbook_that_unpacks_to_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"<row/>" * 100_000)
    monkeypatch.setattr(reading, "_WORKBOOK_BYTES_MAX", 599_999)
    with pytest.raises(OperatorError, match="unpacks to 600,000 bytes"):
        opened(file, encoding=None, delimiter=None, sheet=None)
