import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from server.observation.logs import REDACTED, bound_request, configure_logging, get_log


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", stream=stream, worker=3)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(stream: io.StringIO) -> None:
    log = get_log("listener")
    log.info("accepted", connections=2)
    log.debug("not at this level")
    (line,) = lines(stream)
    assert line.pop("at").endswith("Z")
    assert line == {"event": "accepted", "level": "info", "subject": "listener", "worker": 3, "connections": 2}


def test_lines_of_a_request_carry_its_id(stream: io.StringIO) -> None:
    with bound_request(bytes(range(16))):
        get_log("dispatch").info("decided")
    get_log("dispatch").info("idle")
    inside, outside = lines(stream)
    assert inside["request_id"] == "000102030405060708090a0b0c0d0e0f"
    assert "request_id" not in outside


def test_an_id_of_decimal_digits_is_not_taken_for_a_card(stream: io.StringIO) -> None:
    with bound_request(b"\x12" * 16):
        get_log("dispatch").info("decided")
    assert lines(stream)[0]["request_id"] == "12" * 16


@pytest.mark.parametrize(
    "field",
    ["card", "phone", "name", "greeting_name", "card_token", "Phone", "email", "password", "new_card", "postgres_url"],
)
def test_personal_fields_are_redacted(stream: io.StringIO, field: str) -> None:
    get_log("dispatch").info("seen", **{field: "Ada", "inner": {field: "Ada"}, "many": [{field: "Ada"}]})
    assert "Ada" not in stream.getvalue()
    assert lines(stream)[0][field] == REDACTED


@pytest.mark.parametrize(
    "text",
    [
        "2000000000015",
        "4111111111111111",
        "%B4111111111111111^ADA/LOVELACE^2512?",
        ";4111111111111111=25121011000?",
        "+491701234567",
        "phone:+491701234567",
        "virtual:abcdEFGH-1",
        "postgresql://user:sesame@host/db",
    ],
)
def test_cards_inside_sentences_are_redacted(stream: io.StringIO, text: str) -> None:
    log = get_log("dispatch")
    sentence = f"bad card {text}"
    log.info(sentence, reason=f"({text})", error=ValueError(text))
    try:
        int(text + "x")
    except ValueError:
        log.exception("failed")
    for secret in (text, "ADA", "sesame", "abcdEFGH"):
        assert secret not in stream.getvalue()


def test_ordinary_values_stay(stream: io.StringIO) -> None:
    get_log("writer").info("committed", at_ms=1_763_791_234_567, entries=[1, 2], network="north", ok=True, none=None)
    line = lines(stream)[0]
    assert (line["at_ms"], line["entries"], line["network"], line["ok"], line["none"]) == (
        1_763_791_234_567,
        [1, 2],
        "north",
        True,
        None,
    )


def test_bytes_and_huge_integers_do_not_lose_the_line(stream: io.StringIO) -> None:
    get_log("listener").info("frame", raw=b"\x00", huge=2**70)
    line = lines(stream)[0]
    assert (line["raw"], line["huge"]) == (REDACTED, str(2**70))


def test_libraries_log_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("asyncio").warning("slow for %s", "4111111111111111")
    logging.getLogger("asyncio").info("chatter")
    (line,) = lines(stream)
    assert line["logger"] == "asyncio"
    assert line["worker"] == 3
    assert line["event"] == f"slow for {REDACTED}"


def test_a_log_that_nobody_reads_ends_nothing() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    log = get_log("listener")
    stream.close()
    log.info("accepted")


def test_a_person_can_ask_for_readable_lines() -> None:
    stream = io.StringIO()
    configure_logging("info", "console", stream=stream)
    get_log("listener").info("accepted", card="4111111111111111")
    assert "accepted" in stream.getvalue()
    assert "4111" not in stream.getvalue()
