"""Section 25 of SPEC.md against the code: its worked example byte for byte, its tables name what the code has.

Keys and seals are computed twice: by `hashlib` and AES-GCM from what the paper says, and by the code.
"""

import hmac
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol import messages
from protocol.relay_keys import KEY_BYTES, NONCE_BYTES, SEAL_NONCE_BYTES, RelayCredential, relay_key
from protocol.relay_line import WINDOW, BridgeSession, RelayLine
from protocol.relay_messages import (
    ITEMS_MAX,
    LINE_VERSION,
    PUBLICATION_BYTES_MAX,
    TERMINALS_MAX,
    Data,
    Goodbye,
    Hello,
    Hint,
    ItemKind,
    LineLimits,
    Publication,
    ReplyItem,
    Report,
    RequestItem,
    Roster,
    RosterQuery,
    RosterTerminal,
    Welcome,
    read_publication,
    write_publication,
)

SPEC = (Path(messages.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
CHAPTER = SPEC[SPEC.index("\n## 25. ") :]


def section(number: str) -> str:
    start = CHAPTER.index(f"\n### {number} ")
    end = CHAPTER.find("\n### ", start + 1)
    return CHAPTER[start : end if end > 0 else None]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def numbered(text: str) -> dict[int, str]:
    return {int(row[0]): row[1] for row in rows(text) if row[0].isdigit()}


def example() -> dict[str, dict[str, str]]:
    """The blocks of the worked example by what they are about."""
    parts = re.findall(r"(?:^|\n\n)([^\n]*)\n\n```text\n(.*?)```", section("25.15"), re.DOTALL)
    names = ("given", "HELLO", "WELCOME", "up", "down", "GOODBYE")
    assert len(parts) == len(names)
    return {
        name: dict(re.split(r"\s*= ", line, maxsplit=1) for line in block.splitlines())
        for name, (_, block) in zip(names, parts, strict=True)
    }


EXAMPLE = example()
GIVEN = EXAMPLE["given"]
CREDENTIAL = RelayCredential.parse(GIVEN["credential"])
RELAY_NONCE = bytes.fromhex(GIVEN["relay_nonce"])
SESSION_ID = bytes.fromhex(EXAMPLE["WELCOME"]["session_id"])


def hkdf(key: bytes, salt: bytes, info: str) -> bytes:
    """RFC 5869 with one block of output."""
    return hmac.digest(hmac.digest(salt or bytes(32), key, "sha256"), info.encode() + b"\x01", "sha256")


@pytest.mark.parametrize(
    ("block", "salt", "info", "fields"),
    [
        ("HELLO", RELAY_NONCE, "tillwire hello", [1, 1, CREDENTIAL.code, 1, RELAY_NONCE]),
        ("WELCOME", RELAY_NONCE, "tillwire welcome", [2, EXAMPLE["WELCOME"]["bridge"], RELAY_NONCE]),
        ("up", RELAY_NONCE + SESSION_ID, "tillwire session up", [3, SESSION_ID, 1]),
        ("down", RELAY_NONCE + SESSION_ID, "tillwire session down", [3, SESSION_ID, 1]),
    ],
)
def test_the_worked_example_is_what_the_paper_says(block: str, salt: bytes, info: str, fields: list[Any]) -> None:
    told = EXAMPLE[block]
    key = hkdf(bytes.fromhex(GIVEN["K"]), salt, info)
    assert told["key"] == key.hex()
    assert f'"{info}"' in section("25.4")
    sent_nonce = bytes.fromhex(told.get("seal_nonce", ""))
    nonce = sent_nonce or bytes.fromhex(told["nonce"])
    sealed = AESGCM(key).encrypt(nonce, bytes.fromhex(told["plain"]), bytes.fromhex(told["AAD"]))
    payload = told["DATA" if block in ("up", "down") else block]
    assert msgpack.packb([*fields, sent_nonce + sealed]).hex() == payload


def test_what_is_vouched_for_beside_the_seals() -> None:
    topic = CREDENTIAL.topic
    bound = f"1 {topic} 1 ".encode() + RELAY_NONCE
    assert GIVEN["bound"] == f'"1 {topic} 1 " + relay_nonce'
    assert EXAMPLE["HELLO"]["AAD"] == bound.hex()
    assert EXAMPLE["WELCOME"]["AAD"] == (bound + EXAMPLE["WELCOME"]["bridge"].encode()).hex()
    assert EXAMPLE["up"]["AAD"] == EXAMPLE["down"]["AAD"] == SESSION_ID.hex()
    assert EXAMPLE["up"]["nonce"] == EXAMPLE["down"]["nonce"] == (1).to_bytes(SEAL_NONCE_BYTES).hex()


def test_the_contents_of_the_worked_example_are_packed_as_they_are_written() -> None:
    named = {"session_id": SESSION_ID, "nil": None}
    for block in ("HELLO", "WELCOME", "up", "down"):
        told = EXAMPLE[block]
        names = {**named, "message": bytes.fromhex(told.get("message", ""))}
        content = eval(told["content"], {"__builtins__": {}}, names)  # noqa: S307 - our own paper
        assert msgpack.packb(content).hex() == told["plain"]
    frames = [bytes.fromhex("".join(line.partition(";")[0] for line in block.splitlines())) for block in re.findall(
        r"^```hex\n(.*?)^```$", SPEC, re.MULTILINE | re.DOTALL
    )]  # fmt: skip
    for block in ("up", "down"):
        assert bytes.fromhex(EXAMPLE[block]["message"]) in [frame[4:] for frame in frames]


def scripted(*pieces: str) -> Any:
    left = [bytes.fromhex(piece) for piece in pieces]
    return lambda count: left.pop(0)[:count]


def test_both_ends_write_the_worked_example() -> None:
    hello_told, welcome_told, up, down = (EXAMPLE[name] for name in ("HELLO", "WELCOME", "up", "down"))
    wall_ms, software = eval(hello_told["content"])  # noqa: S307 - our own paper
    _, server_time_ms, limits = eval(welcome_told["content"], {"session_id": SESSION_ID})  # noqa: S307
    line = RelayLine(CREDENTIAL, software, scripted(GIVEN["relay_nonce"], hello_told["seal_nonce"]))
    hello = line.hello(wall_ms)
    assert hello.hex() == hello_told["HELLO"]
    said = read_publication(hello)
    assert isinstance(said, Hello)
    random_bytes = scripted(welcome_told["session_id"], welcome_told["seal_nonce"])
    session = BridgeSession(said, CREDENTIAL.key, CREDENTIAL.topic, random_bytes)
    welcome = session.welcome(welcome_told["bridge"], server_time_ms, LineLimits(*limits))
    assert welcome.hex() == welcome_told["WELCOME"]
    answered = read_publication(welcome)
    assert isinstance(answered, Welcome)
    line.welcomed(answered, 1_000)
    sent = line.close([RequestItem("T-0001", bytes.fromhex(up["message"]))], 1_250)
    assert sent.hex() == up["DATA"]
    reply = [ReplyItem("T-0001", bytes.fromhex(down["message"]))]
    assert session.close(list(reply), server_time_ms + 270, 12).hex() == down["DATA"]


def test_the_goodbye_of_the_worked_example() -> None:
    payload = bytes.fromhex(EXAMPLE["GOODBYE"]["GOODBYE"])
    assert read_publication(payload) == Goodbye(SESSION_ID, Hint.UNKNOWN_SESSION, "unknown session")
    assert write_publication(Goodbye(SESSION_ID, 1, "unknown session")) == payload


def test_the_topics_of_the_worked_example() -> None:
    assert EXAMPLE["HELLO"]["topic"] == f"{CREDENTIAL.topic}/hello"
    assert EXAMPLE["WELCOME"]["topic"] == EXAMPLE["down"]["topic"] == f"{CREDENTIAL.topic}/answer"
    assert EXAMPLE["up"]["topic"] == f"{CREDENTIAL.topic}/to/{EXAMPLE['WELCOME']['bridge']}"


def test_tables_of_codes() -> None:
    publications = dict(re.findall(r"^\*\*([A-Z]+) \((\d+)\)\*\*", section("25.5"), re.MULTILINE))
    assert {name: int(number) for name, number in publications.items()} == {p.name: p.value for p in Publication}
    goodbye = section("25.5").split("**GOODBYE (4)**")[1].split("| Reason |")[1]
    assert numbered(goodbye) == {hint.value: hint.name for hint in Hint}
    items = section("25.6").split("**REQUEST.**")[0]
    assert numbered(items) == {kind.value: kind.name for kind in ItemKind}


def test_tables_of_fields() -> None:
    told = {row[1]: row[3] for row in rows(section("25.6").split("**REQUEST.**")[0]) if row[0].isdigit()}
    of_kinds = {
        "REQUEST": RequestItem,
        "ROSTER_QUERY": RosterQuery,
        "REPORT": Report,
        "REPLY": ReplyItem,
        "ROSTER": Roster,
    }
    for kind, item in of_kinds.items():
        assert told[kind].split(", ") == list(item._fields), kind
    terminal = section("25.6").split("**ROSTER**")[1]
    assert list(numbered(terminal).values()) == list(RosterTerminal._fields)
    hello, _, rest = section("25.5").partition("**WELCOME (2)**")
    welcome, _, rest = rest.partition("`limits` is an array")
    limits, _, rest = rest.partition("**DATA (3)**")
    data, _, goodbye = rest.partition("**GOODBYE (4)**")
    goodbye = goodbye.partition("| Reason |")[0]
    assert list(numbered(limits).values()) == list(LineLimits._fields)
    for text, publication in ((hello, Hello), (welcome, Welcome), (data, Data), (goodbye, Goodbye)):
        assert numbered(text) == dict(enumerate(publication._fields, start=1))


def test_numbers() -> None:
    bounds = {row[0]: row[1] for row in rows(section("25.9"))}
    assert bounds["payload of a publication"].startswith(f"{PUBLICATION_BYTES_MAX:,} bytes")
    assert bounds["items of a publication"] == str(ITEMS_MAX)
    assert bounds["terminals of a roster"] == str(TERMINALS_MAX)
    assert bounds["how far behind the newest a sequence may come"] == f"{WINDOW - 1:,}"
    assert f"{WINDOW:,} or more behind the newest" in section("25.7")
    assert f"of this section: {LINE_VERSION}" in section("25.5")
    assert f"one secret key of {KEY_BYTES} bytes" in section("25.1")
    assert f"`relay_nonce` is {NONCE_BYTES} random bytes" in section("25.4")


def test_how_headquarters_makes_a_key() -> None:
    assert '`"tillwire relay {generation} {code}"`' in section("25.4")
    assert relay_key(bytes(32), "R-1", 7) == hkdf(bytes(32), b"", "tillwire relay 7 R-1")


def test_every_section_of_the_chapter_stands_in_its_table() -> None:
    headings = re.findall(r"^### (25\.\d+ .*)$", CHAPTER, re.MULTILINE)
    listed = [cell for row in rows(CHAPTER.split("### 25.1 ")[0]) for cell in row if cell.startswith("25.")]
    assert sorted(listed) == sorted(headings)
    assert [int(heading.split(" ")[0][3:]) for heading in headings] == list(range(1, len(headings) + 1))


def test_every_section_that_is_referred_to_is_there() -> None:
    there = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)[ .]", SPEC, re.MULTILINE))
    named = set(re.findall(r"[Ss]ections? (\d+(?:\.\d+)?)(?:[,; )]|\. |\.$|$)", SPEC, re.MULTILINE))
    assert {"25.10", "13", "9.1"} <= named
    assert named <= there
