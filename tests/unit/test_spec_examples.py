"""SPEC.md against the code: its examples decode and encode again, its tables name what the enums name."""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

import pytest

from protocol import messages, scram, tokens
from protocol.codes import BlockReason, CardKind, ErrorCode, Goodbye, Message, Outcome, StatusState
from protocol.connection import FRAME_TIMEOUT_MS, HANDSHAKE_FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT_MS
from protocol.session import Challenge, Hello, Proof, Welcome

SPEC = (Path(messages.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
HEX_BLOCKS = re.findall(r"^```hex\n(.*?)^```$", SPEC, re.MULTILINE | re.DOTALL)


def _frame(block: str) -> bytes:
    return bytes.fromhex("".join(line.partition(";")[0] for line in block.splitlines()))


def _message_name(block: str) -> str:
    found = re.search(r"; type \d+ ([A-Z]+)$", block, re.MULTILINE)
    assert found is not None
    return found[1]


def _section(heading: str) -> str:
    start = SPEC.index(f"\n{heading}")
    level = heading.split(" ", maxsplit=1)[0]
    following = re.search(rf"\n#{{2,{len(level)}}} ", SPEC[start + 1 :])
    return SPEC[start:] if following is None else SPEC[start : start + 1 + following.start()]


def _rows(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def _numbered_names(section: str) -> dict[int, str]:
    return {
        int(row[0]): row[1]
        for row in _rows(section)
        if row[0].isdigit() and re.fullmatch("[A-Z_]+", row[1]) is not None
    }


@pytest.mark.parametrize("block", HEX_BLOCKS, ids=[f"{n}-{_message_name(b)}" for n, b in enumerate(HEX_BLOCKS)])
def test_every_example_decodes_and_encodes_to_the_same_bytes(block: str) -> None:
    frame = _frame(block)
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    message = messages.decode(frame[4:])
    assert messages.encode(message) == frame


def test_every_message_type_has_an_example() -> None:
    assert {_message_name(block) for block in HEX_BLOCKS} == {message.name for message in Message}


def test_comments_of_the_examples_say_what_the_bytes_say() -> None:
    for block in HEX_BLOCKS:
        frame = _frame(block)
        number = re.search(r"; type (\d+) ([A-Z]+)$", block, re.MULTILINE)
        assert number is not None
        assert frame[5] == int(number[1]) == Message[number[2]]
        assert f"; length {len(frame) - 4}\n" in block


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        ("### 7.5", Goodbye),
        ("### 9.10", StatusState),
        ("## 11.", Outcome),
        ("### 12.1", ErrorCode),
    ],
)
def test_tables_of_codes(heading: str, codes: type[IntEnum]) -> None:
    assert _numbered_names(_section(heading)) == {code.value: code.name for code in codes}


def test_table_of_operations() -> None:
    table = _numbered_names(_section("## 9. ").split("### 9.1")[0])
    assert table == {m.value: m.name for m in Message if Message.BALANCE <= m < Message.ANSWER}


def test_every_heading_of_a_message_names_its_type() -> None:
    for name, number in re.findall(r"^##+ \S+ ([A-Z]+) \((?:type )?(\d+)[),]", SPEC, re.MULTILINE):
        assert Message[name] == int(number)


def test_reasons_of_block() -> None:
    sentence = re.search(r"\| reason \| uint \| (0 other.*?) \|", SPEC)
    assert sentence is not None
    named = dict(part.split(" ") for part in sentence[1].split(", "))
    assert named == {str(reason.value): reason.name.lower() for reason in BlockReason}


def test_outcomes_stand_in_order_of_precedence() -> None:
    numbers = [int(row[0]) for row in _rows(_section("## 11.")) if row[0].isdigit()]
    assert all(first < second for first, second in pairwise(numbers))


def test_cards_lead_to_the_canonical_form_beside_them() -> None:
    canonical = {
        int(row[0]): row[3].strip("`") for row in _rows(_section("### 8.2")) if row[0].isdigit() and len(row) == 4
    }
    assert tokens.canonical(CardKind.EAN13, "2000000000015") == canonical[CardKind.EAN13]
    assert tokens.ean13_check_digit("200000000001") == "5"
    pan = canonical[CardKind.PAN].removeprefix("pan:")
    assert f"`964310000000001` gives `{pan}`" in SPEC
    assert pan == "964310000000001" + tokens.luhn_check_digit("964310000000001")
    assert tokens.canonical(CardKind.PHONE, "+4915112345678") == canonical[CardKind.PHONE]
    assert tokens.canonical(CardKind.VIRTUAL, "wallet-7Hq2ZkP0") == canonical[CardKind.VIRTUAL]
    name = "^MEMBER/A^29121010000000000"
    for track in (
        f"%B{pan}{name}?",
        f"%B{pan}{name}?Z",
        f"B{pan}{name}",
        f";{pan}=29121010000000000?",
        f"{pan}D2912",
        f";{pan}?",
        f"%B{pan}{name}?;{pan}=2912?",
        f" ;{pan}=2912?\r\n",
    ):
        assert tokens.canonical(CardKind.TRACK, track) == f"pan:{pan}", track
    masked = re.search(r"`(\S+\*+\S+)`", SPEC)
    assert masked is not None
    assert tokens.masked("ean13:2000000000015") == f"ean13:{masked[1]}"


def _scram_example() -> dict[str, str]:
    block = _section("### 6.1").split("```text\n")[1].split("```")[0]
    return dict(re.split(r"\s+= ", line, maxsplit=1) for line in block.splitlines())


def test_the_worked_example_of_scram_is_what_hashlib_computes() -> None:
    example = _scram_example()
    secret = re.search(r"secret `([^`]+)`", _section("### 6.1"))
    assert secret is not None

    def mac(key: bytes, message: str) -> bytes:
        return hmac.digest(key, message.encode(), "sha256")

    server_first = dict(part.split("=", 1) for part in example["server_first"].split(","))
    salt, iterations = b64decode(server_first["s"]), int(server_first["i"])
    assert example["salt"] == f"{salt.hex()} (hex), iterations = {iterations}"
    salted = hashlib.pbkdf2_hmac("sha256", secret[1].encode(), salt, iterations)
    client_key, server_key = mac(salted, "Client Key"), mac(salted, "Server Key")
    stored_key = hashlib.sha256(client_key).digest()
    without_proof = f"c=biws,r={server_first['r']}"
    auth_message = ",".join((example["client_first"].removeprefix("n,,"), example["server_first"], without_proof))
    client_signature, server_signature = mac(stored_key, auth_message), mac(server_key, auth_message)
    proof = bytes(a ^ b for a, b in zip(client_key, client_signature, strict=True))
    assert example["SaltedPassword"] == salted.hex()
    assert example["ClientKey"] == client_key.hex()
    assert example["StoredKey"] == stored_key.hex()
    assert example["without_proof"] == without_proof
    assert example["AuthMessage"] == auth_message
    assert example["ClientSignature"] == client_signature.hex()
    assert example["ClientProof"] == proof.hex()
    assert example["client_final"] == f"{without_proof},p={b64encode(proof).decode()}"
    assert example["ServerKey"] == server_key.hex()
    assert example["ServerSignature"] == server_signature.hex()
    assert example["server_final"] == f"v={b64encode(server_signature).decode()}"


def test_the_handshake_examples_carry_the_worked_example() -> None:
    example = _scram_example()
    by_name = {_message_name(block): messages.decode(_frame(block)[4:]) for block in HEX_BLOCKS}
    hello, challenge, proof, welcome = (by_name[name] for name in ("HELLO", "CHALLENGE", "PROOF", "WELCOME"))
    assert isinstance(hello, Hello)
    assert isinstance(challenge, Challenge)
    assert isinstance(proof, Proof)
    assert isinstance(welcome, Welcome)
    assert hello.client_first == example["client_first"]
    assert challenge.server_first == example["server_first"]
    assert proof.client_final == example["client_final"]
    assert welcome.server_final == example["server_final"]


def test_the_worked_example_is_what_the_code_says() -> None:
    example = _scram_example()
    secret = re.search(r"secret `([^`]+)`", _section("### 6.1"))
    assert secret is not None
    nonce = example["client_first"].partition(",r=")[2]
    client = scram.ClientExchange("T-0001", secret[1], nonce)
    assert client.client_first == example["client_first"]
    assert client.respond(example["server_first"]) == example["client_final"]
    client.verify(example["server_final"])


def test_the_limits_of_the_handshake() -> None:
    assert f"at most {HANDSHAKE_FRAME_BYTES_MAX:,} before WELCOME" in SPEC
    assert f"handshake: connected to WELCOME | both | {HANDSHAKE_TIMEOUT_MS:,} ms" in SPEC
    assert f"first byte to last | server | {FRAME_TIMEOUT_MS:,} ms" in SPEC
