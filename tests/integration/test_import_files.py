"""Members, cards and balances come in whole, once, and to the last point; what is wrong is told and stands aside."""

import csv
import stat
from datetime import date, timedelta
from pathlib import Path

import pytest

from ledger.registry.personal import PersonalData
from server.errors import OperatorError
from server.moving.values import EPOCH_DAY
from tests.rigs.moving_rig import SECRETS, MovingRig, ean13
from tests.unit.test_moving_reading import workbook

SOON = date.today() + timedelta(days=100)  # noqa: DTZ011 - a year's end is far away
LATER = SOON + timedelta(days=100)
NO_DATE = "is no date of the form 2026-12-31 or 31.12.2026: name the form in a mapping file (format.dates)"
PERSONAL = PersonalData(SECRETS.personal_key)


@pytest.fixture
def rig(postgres_url: str, tmp_path: Path) -> MovingRig:
    return MovingRig(postgres_url, tmp_path)


def three_files(rig: MovingRig) -> dict[str, Path]:
    """Three members with four cards, one of them blocked, and four lots, and a card that is nobody's yet."""
    return {
        "members": rig.file(
            "members.csv",
            ("id", "first name", "last name", "phone", "email", "consents"),
            ("C1", "Anna", "Schmidt", "+4915111111111", "anna@example.org", "marketing -sms"),
            ("C2", "Юрий", "Щукин", "", "", ""),
            ("C3", "Zoë", "", "", "", ""),
        ),
        "cards": rig.file(
            "cards.csv",
            ("id", "card number", "status"),
            ("C1", ean13(1), ""),
            ("C1", "+4915111111111", "active"),
            ("C2", ean13(2), "blocked"),
            ("C3", ean13(3), "issued"),
            ("", ean13(4), "active"),
        ),
        "balances": rig.file(
            "balances.csv",
            ("id", "points", "expires", "valid from"),
            ("C1", "10.50", LATER.isoformat(), ""),
            ("C1", "1.25", SOON.strftime("%d.%m.%Y"), ""),
            ("C1", "3", "", SOON.isoformat()),
            ("C2", "7", "", ""),
        ),
    }


ORDERS = [
    ("members", "cards", "balances"),
    ("cards", "members", "balances"),
    ("balances", "cards", "members"),
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_files_meet_in_one_account_whatever_their_order_and_once(rig: MovingRig, order: tuple[str, ...]) -> None:
    files = three_files(rig)
    expected = {"members": 3, "cards": 5, "balances": 4}
    if order[0] == "balances":
        # The account has a journal by then, so a card comes by an entry of it: not as one that waits for its first use.
        text = files["cards"].read_text().replace("issued", "active")
        files["cards"].write_text(text)
    for kind in order:
        report = rig.take(kind, files[kind])
        assert (report.imported, report.already, report.rejected) == (expected[kind], 0, 0), report.first_rejects
    before = rig.everything()
    for kind in order:
        report = rig.take(kind, files[kind])
        assert (report.imported, report.already, report.rejected) == (0, expected[kind], 0)
    assert rig.everything() == before
    verified = rig.verify()
    assert (verified.accounts, verified.balance) == (4, 2_175)

    (row,) = rig.rows("SELECT account_id FROM card WHERE masked LIKE 'phone:%'")
    account = row["account_id"]
    assert rig.value("SELECT count(*) FROM card WHERE account_id = $1", account) == 2
    assert not rig.value("SELECT count(*) FROM card WHERE masked = '' OR kind = 0")
    assert [row["status"] for row in rig.rows("SELECT status FROM card ORDER BY status")][-1] == 2
    lots = rig.lots()[account]
    soon, later = SOON.toordinal() - EPOCH_DAY, LATER.toordinal() - EPOCH_DAY
    assert [(until, free) for _, until, free, _ in lots] == [(soon, 125), (later, 1_050), (0, 300)]
    assert lots[-1][0] == soon
    entries = rig.rows("SELECT * FROM entry WHERE account_id = $1 AND op = 44", account)
    assert {(e["terminal_id"], e["reference"]) for e in entries} == {(0, "opening balance")}
    (member,) = rig.rows("SELECT data FROM personal.member WHERE account_id = $1", account)
    told = PERSONAL.decrypt(account, member["data"])
    assert (told.given_name, told.family_name, told.consents) == ("Anna", "Schmidt", {"marketing": True, "sms": False})
    assert told.attributes == {"external_id": "C1"}
    (_, hashed) = PERSONAL.lookup_for("anna@example.org")[0]
    assert rig.value("SELECT account_id FROM personal.lookup WHERE hash = $1", hashed) == account


def test_a_dry_run_tells_the_same_and_changes_nothing(rig: MovingRig) -> None:
    files = three_files(rig)
    before = rig.everything()
    for kind, rows in (("members", 3), ("cards", 5), ("balances", 4)):
        report = rig.take(kind, files[kind], dry_run=True)
        assert (report.rows, report.imported, report.rejected) == (rows, rows, 0)
    assert rig.everything() == before
    assert rig.value("SELECT count(*) FROM office.audit") == 0


def test_bad_rows_are_told_with_line_column_and_reason_and_stand_aside_as_they_were(rig: MovingRig) -> None:
    yesterday = date.today() - timedelta(days=2)  # noqa: DTZ011
    rig.take("cards", rig.file("cards.csv", ("id", "number"), ("C1", ean13(1)), ("C2", ean13(2))))
    header = ("id", "card", "points", "expires", "valid from")
    rows = [
        ("C1", "", "5", "", ""),
        ("C1", "", "5", "", ""),
        ("", "", "1", "", ""),
        ("C2", "", "many", "", ""),
        ("C2", "", "-3", "", ""),
        ("C2", "", "1.234", "", ""),
        ("C2", "", "4", yesterday.isoformat(), ""),
        ("C2", "", "4", SOON.isoformat(), LATER.isoformat()),
        ("C2", "", "4", "12/31/2030", ""),
        ("", ean13(9), "8", "", ""),
        ("C1", ean13(2), "9", LATER.isoformat(), ""),
        ("", "2000000000016", "2", "", ""),
        ("C2", "", "6"),
        ("", ean13(2), "2.50", "", ""),
    ]
    report = rig.take("balances", rig.file("balances.csv", header, *rows))
    assert (report.rows, report.imported, report.already, report.rejected, report.conflicts) == (14, 2, 0, 12, 1)
    assert [(r["line"], r["column"], r["reason"]) for r in report.first_rejects] == [
        (3, "points", "is doubled: the same lot as in line 2"),
        (4, "id", "is empty, and so is the card's number"),
        (5, "points", "is no number"),
        (6, "points", "is negative: what a member owes cannot be moved in"),
        (7, "points", "may be thousands or decimals: say format.decimal_comma in a mapping file"),
        (8, "expires", "lies in the past: these points have expired"),
        (9, "valid from", "is later than the last day of these points"),
        (10, "expires", NO_DATE),
        (11, "card", "is no known card: import the cards first"),
        (12, "card", "is a card of another account"),
        (13, "card", "is no card: the check digit of the EAN-13 is wrong"),
        (14, "", "has 3 columns, the header has 5"),
    ]  # fmt: skip
    assert (report.points_in_file, report.points_imported, report.points_rejected) == (4_450, 750, 3_700)
    assert report.rows_with_unreadable_points == 4
    assert report.reject_file is not None
    file = Path(report.reject_file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open(newline="", encoding="utf-8-sig") as stream:
        aside = sorted(csv.reader(stream), key=lambda row: row[5] != "reject_line" and int(row[5]))
    assert aside[0] == [*header, "reject_line", "reject_column", "reject_reason"]
    assert [tuple(row[:5]) for row in aside[1:]] == [
        tuple((*row, "", "")[:5]) for i, row in enumerate(rows) if i not in (0, 13)
    ]
    # Once put right, the rows come in from that very file.
    mended = [*aside[5][:2], "12", "2099-01-01", *aside[5][4:]]
    report = rig.take("balances", rig.file("again.csv", aside[0], aside[4], mended))
    assert (report.imported, report.points_imported, report.rejected) == (1, 1_200, 1)
    assert rig.verify().balance == 750 + 1_200


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (("", "A", "", ""), "id", "is empty"),
        (("1", "A" * 101, "", ""), "first name", "has more than 100 characters"),
        (("1", "A\x07", "", ""), "first name", "has control characters"),
        (("1", "A", "0151 123456", ""), "phone", "is not + and 7 to 15 digits"),
        (("1", "A", "", "nobody"), "email", "is no e-mail address"),
        (("x" * 129, "A", "", ""), "id", "is no id"),
    ],
)
def test_a_member_that_cannot_be_is_rejected(rig: MovingRig, row: tuple[str, ...], column: str, reason: str) -> None:
    file = rig.file("members.csv", ("id", "first name", "phone", "email"), row, ("2", "Bo", "", ""))
    report = rig.take("members", file)
    assert (report.imported, report.rejected) == (1, 1)
    (shown,) = report.first_rejects
    assert (shown["line"], shown["column"]) == (2, column)
    assert reason in shown["reason"]


def test_what_exists_with_other_content_is_a_conflict_and_stays(rig: MovingRig) -> None:
    files = three_files(rig)
    for kind, file in files.items():
        rig.take(kind, file)
    before = rig.everything()
    changes = {
        "members": ("Anna", "Hanna", "external_id", "is known with other data: given_name"),
        "cards": ("blocked", "active", "status", "is active in the file and blocked here"),
        "balances": ("10.50", "10.51", "points", "are 10.51 in the file and 10.50 in the journal already"),
    }
    for kind, (old, new, _, reason) in changes.items():
        files[kind].write_text(files[kind].read_text().replace(old, new))
        report = rig.take(kind, files[kind])
        assert (report.imported, report.conflicts, report.rejected) == (0, 1, 1)
        assert report.first_rejects[0]["reason"] == reason
    moved = rig.file("cards.csv", ("id", "number"), ("C2", ean13(1)))
    assert rig.take("cards", moved).first_rejects[0]["reason"] == "is a card of another account"
    assert rig.everything() == before


def test_the_same_lot_told_by_the_card_instead_of_the_member_does_not_come_twice(rig: MovingRig) -> None:
    rig.take("cards", rig.file("cards.csv", ("id", "number"), ("C1", ean13(1))))
    rig.take("balances", rig.file("b.csv", ("id", "points"), ("C1", "5")))
    report = rig.take("balances", rig.file("b.csv", ("number", "points"), (ean13(1), "5")))
    assert (report.imported, report.conflicts) == (0, 1)
    assert rig.verify().balance == 500


def test_lots_of_the_same_days_are_told_apart_by_their_names_and_systems_by_theirs(rig: MovingRig) -> None:
    file = rig.file("b.csv", ("id", "points", "lot"), ("1", "5", "a"), ("1", "5", "b"))
    assert rig.take("balances", file).imported == 2
    assert rig.take("balances", file).already == 2
    assert rig.take("balances", file, source="other").imported == 2
    assert rig.verify().balance == 2_000
    assert rig.value("SELECT count(*) FROM account") == 2
    references = rig.rows("SELECT DISTINCT reference FROM entry ORDER BY 1")
    assert [row["reference"] for row in references] == ["opening balance", "opening balance, other"]


def test_a_card_that_was_nobodys_becomes_the_members(rig: MovingRig) -> None:
    rig.take("cards", rig.file("cards.csv", ("number",), (ean13(1),)))
    rig.take("balances", rig.file("b.csv", ("number", "points"), (ean13(1), "5")))
    report = rig.take("cards", rig.file("cards.csv", ("id", "number"), ("C1", ean13(1)), ("C1", ean13(2))))
    assert report.rejected == 0
    assert (
        rig.take(
            "members",
            rig.file(
                "m.csv",
                (
                    "id",
                    "name",
                ),
                ("C1", "Ann"),
            ),
            mapping=_named(rig),
        ).imported
        == 1
    )
    assert rig.value("SELECT count(*) FROM account") == 1
    assert rig.take("cards", rig.file("c.csv", ("id", "number"), ("C2", ean13(1)))).conflicts == 1
    rig.verify()


def _named(rig: MovingRig) -> Path:
    file = rig.folder / "mapping.toml"
    file.write_text('[columns]\nname = "given_name"\n')
    return file


def test_hundreds_of_lots_of_one_account_all_come_in(rig: MovingRig) -> None:
    rows = [("1", "1.01", (SOON + timedelta(days=day)).isoformat()) for day in range(700)]
    report = rig.take("balances", rig.file("b.csv", ("id", "points", "expires"), *rows))
    assert (report.imported, report.points_imported) == (700, 70_700)
    assert rig.verify().balance == 70_700


def test_a_workbook_comes_in_like_a_text(rig: MovingRig) -> None:
    rows = [
        ["Код клиента", "Номер карты", "Баллы", "Сгорают"],
        ["C1", None, 10.1, SOON],
        ["C1", None, "1,25", SOON + timedelta(days=1)],
        ["C2", float(ean13(5)), 3, None],
        [7.0, None, 0.07, "31.12.2099"],
        ["C3", None, 5, 50_000],
    ]
    rig.take("cards", rig.file("cards.csv", ("number",), (ean13(5),)))
    report = rig.take("balances", workbook(rig.folder / "b.xlsx", ("Баллы", rows)))
    assert (report.imported, report.points_imported, report.rejected) == (4, 1_442, 1)
    assert report.first_rejects[0]["line"] == 6
    assert "format of a date" in report.first_rejects[0]["reason"]
    assert rig.verify().balance == 1_442


@pytest.mark.parametrize("encoding", ["cp1251", "utf-16", "utf-8-sig"])
def test_names_come_in_whatever_the_encoding(rig: MovingRig, encoding: str) -> None:
    rows = [("код", "имя", "фамилия"), ("1", "Алёна", "Щукина"), ("2", "Юрий", "Ёлкин")]
    assert rig.take("members", rig.file("m.csv", *rows, encoding=encoding)).imported == 2
    stored = rig.rows("SELECT account_id, data FROM personal.member")
    names = {PERSONAL.decrypt(row["account_id"], row["data"]).family_name for row in stored}
    assert names == {"Щукина", "Ёлкин"}


def test_the_reject_file_never_replaces_the_file_itself(rig: MovingRig) -> None:
    file = rig.file("m.csv", ("id",), ("1",))
    with pytest.raises(OperatorError, match="overwrite"):
        rig.take("members", file, reject=file)
    assert file.read_text().startswith("id")
