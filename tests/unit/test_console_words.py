import re
from collections.abc import Iterator
from datetime import UTC
from functools import cache
from importlib import resources
from pathlib import Path
from string import Formatter
from zoneinfo import ZoneInfo

import pytest

from admin_api.console.navigation import MAIN
from admin_api.console.words import LANGUAGES, Words, preferred, texts
from ledger.operations import Operation, Outcome

CONSOLE = Path(str(resources.files("admin_api.console")))
_KEY = re.compile(r"""\bt\("([a-z_0-9.]+)"[,)]""")
_FLASH = re.compile(r"""Flash\("\w+", "([a-z_0-9.]+)\"""")
_PLURAL = re.compile(r"""plural\("([a-z_0-9.]+)\"""")
_FORMS = {"en": {"one", "other"}, "ru": {"one", "few", "many", "other"}}


def sources() -> Iterator[str]:
    for path in [*CONSOLE.glob("templates/*.html"), *CONSOLE.glob("[a-z]*.py")]:
        yield path.read_text("utf-8")


@cache
def plurals() -> set[str]:
    counted = {key.rpartition(".")[0] for key in texts("en") if key.endswith(".one")}
    return counted | {key for text in sources() for key in _PLURAL.findall(text)}


def singles(language: str) -> set[str]:
    return {key for key in texts(language) if key.rpartition(".")[0] not in plurals()}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_all_languages_have_the_same_texts_with_the_same_fields() -> None:
    for language in LANGUAGES:
        assert singles(language) == singles("en")
        for key in singles(language):
            assert fields(texts(language)[key]) == fields(texts("en")[key]), key
            assert texts(language)[key].strip(), key


def test_every_plural_has_the_forms_of_its_language() -> None:
    for language in LANGUAGES:
        for key in plurals():
            assert {form for form in _FORMS["ru"] if f"{key}.{form}" in texts(language)} == _FORMS[language], key


def test_every_text_that_is_asked_for_exists() -> None:
    used = {key for text in sources() for pattern in (_KEY, _FLASH) for key in pattern.findall(text)}
    assert len(used) > 50
    assert used | {item.key for item in MAIN} <= singles("en")
    assert {f"{key}.other" for key in plurals()} <= set(texts("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_outcome_and_operation_is_said_in_plain_words(language: str) -> None:
    words = Words(language, UTC)
    for outcome in Outcome:
        assert words.known(f"outcome.{outcome.name.lower()}"), outcome
    for operation in Operation:
        assert words.known(f"operation.{operation.name.lower()}"), operation
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 503):
        assert words.known(f"error.{status}_title")


def test_numbers_points_money_and_times_are_written_as_in_the_language() -> None:
    english, russian = Words("en", ZoneInfo("Europe/Moscow")), Words("ru", ZoneInfo("Europe/Moscow"))
    assert english.points(123_450) == "1,234.50"
    assert russian.points(123_450) == "1\xa0234,50"
    assert russian.points(-5) == "-0,05"
    assert english.money(123_450, "EUR") == "€1,234.50"
    assert english.money(1_234, "JPY") == "JP¥1,234"
    assert russian.money(123_450, "RUB") == "1\xa0234,50\xa0₽"
    assert (english.clock(0), russian.day(0, "d MMMM")) == ("03:00", "1 января")
    assert english.outcome("CARD_BLOCKED") == "Declined: card is blocked"
    assert russian.reason("insufficient") == "не хватает баллов"


@pytest.mark.parametrize(
    ("value", "gap", "text"),
    [(0, 50, "0"), (1_500, 500, "1,500"), (20_000, 5_000, "20K"), (8_446_850, 50, "8,446,850"), (2.5, 0.5, "2.5"),
     (8_450_000, 100_000, "8.4M"), (0.06, 0.02, "0.06")],
)  # fmt: skip
def test_labels_of_an_axis_are_as_fine_as_it_takes(value: float, gap: float, text: str) -> None:
    assert Words("en", UTC).compact(value, gap) == text


def test_the_first_language_that_there_is_is_taken() -> None:
    assert preferred("de-DE,ru;q=0.8,en;q=0.5") == "ru"
    assert preferred("de") == preferred("") == "en"
