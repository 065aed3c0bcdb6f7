import json
from pathlib import Path

import pytest

from tests.integration.test_cli import sentence, tillwire
from tests.integration.test_population import installation
from tests.rigs.moving_rig import table

HEADER = ("Kunde", "Karte", "Punkte", "Notiz")
ROWS = [("C1", "", "1.234,50", "x"), ("C2", "", "1,5", ""), ("C2", "", "viele", "")]
MAPPING = """
[columns]
Kunde = "external_id"
Karte = "number"
Punkte = "points"
Notiz = "-"
[format]
decimal_comma = true
"""


@pytest.fixture
def variables(tmp_path: Path, postgres_url: str) -> dict[str, str]:
    return installation(tmp_path, postgres_url)


def test_the_command_shows_columns_rejects_and_totals(variables: dict[str, str], tmp_path: Path) -> None:
    file, mapping = table(tmp_path / "b.csv", HEADER, *ROWS), tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    words = ("import", "balances", str(file), "--mapping", str(mapping))
    dry = tillwire(*words, "--dry-run", **variables)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "b.csv: CSV, utf-8, delimiter comma" in dry.stdout
    assert "  Kunde   external_id\n  Karte   number\n  Punkte  points\n  Notiz   left out\n" in dry.stdout
    assert "line 4, column Punkte: is no number" in dry.stdout

    done = tillwire(*words, "--reject", str(tmp_path / "bad.csv"), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    flat = " ".join(done.stdout.replace("│", " ").split())
    for line in ("in the file 3 1,236.00", "imported 2 1,236.00", "rejected 1 0.00", "counts 2 1,236.00"):
        assert line in flat
    assert "of 1 rejected rows the points cannot be read" in done.stdout
    assert f"rejected rows are in {tmp_path / 'bad.csv'}" in done.stdout
    assert "not one row and not one point lost" in done.stdout

    strict = tillwire(*words, "--strict", "--json", **variables)
    assert strict.returncode == 1
    report = json.loads(strict.stdout)
    assert (report["imported"], report["already"], report["rejected"], report["agrees"]) == (0, 2, 1, True)
    assert report["reject_file"] == f"{file}.rejected.csv"
    assert json.loads(tillwire("verify", "--skip-redis", "--json", **variables).stdout)["balance"] == 123_600


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "columns that are not known in balances: 'Kunde', 'Karte', 'Punkte', 'Notiz'"),
        (("--delimiter", "dash"), "none of comma, semicolon, tab and bar"),
        (("--encoding", "klingon"), "unknown"),
        (("--sheet", "1"), "no workbook"),
        (("--mapping", "/nowhere.toml"), "cannot be read"),
        (("--source", "x" * 41), "at most 40"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    variables: dict[str, str], tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    file = table(tmp_path / "b.csv", HEADER, *ROWS)
    assert why in sentence(tillwire("import", "balances", str(file), *words, **variables))


def test_without_a_database_or_a_file_it_says_so(tmp_path: Path) -> None:
    assert "TILLWIRE_POSTGRES_URL" in sentence(tillwire("import", "cards", "x.csv", TILLWIRE_DATA_DIR=str(tmp_path)))
    assert tillwire("import", "--help").returncode == 0
    assert "--personal" in tillwire("export", "--help").stdout
