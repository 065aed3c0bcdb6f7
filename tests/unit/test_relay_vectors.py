"""The committed vectors of the line between relay and bridge, made by another program, hold for both ends here."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.fields import Malformed
from protocol.relay_keys import NotGenuine, RelayCredential, derived, relay_key
from protocol.relay_line import BridgeSession, RelayLine, Repeated
from protocol.relay_messages import (
    Data,
    Goodbye,
    Hello,
    LineLimits,
    Welcome,
    read_publication,
    read_up,
)

FILE = json.loads((Path(__file__).parents[2] / "protocol" / "vectors" / "relay.json").read_text("utf-8"))
MADE_OF = FILE["relay"]
ERRORS = {"NOT_GENUINE": NotGenuine, "REPEATED": Repeated, "MALFORMED": Malformed}
KINDS = ("credential", "relay-key", "hello", "welcome", "up", "down", "publication")


def of(kind: str) -> list[Any]:
    return [pytest.param(v, id=v["id"]) for v in FILE["vectors"] if v["flags"][0] == kind]


def random_bytes(*pieces: str) -> Any:
    """A source of randomness that gives what the worked example was made of."""
    left = [bytes.fromhex(piece) for piece in pieces]

    def take(count: int) -> bytes:
        piece = left.pop(0)
        assert len(piece) == count
        return piece

    return take


def relay_that_said_hello() -> tuple[RelayLine, bytes]:
    source = random_bytes(MADE_OF["relay_nonce"], MADE_OF["hello_seal_nonce"])
    line = RelayLine(RelayCredential.parse(MADE_OF["line"]), MADE_OF["software"], source)
    return line, line.hello(MADE_OF["wall_ms"])


def both_ends() -> tuple[RelayLine, BridgeSession, bytes]:
    """Both ends of the session of the worked example, and its WELCOME."""
    line, hello = relay_that_said_hello()
    said = read_publication(hello)
    assert isinstance(said, Hello)
    credential = RelayCredential.parse(MADE_OF["line"])
    source = random_bytes(MADE_OF["session_id"], MADE_OF["welcome_seal_nonce"])
    session = BridgeSession(said, credential.key, credential.topic, source)
    welcome = session.welcome(MADE_OF["bridge"], MADE_OF["server_time_ms"], LineLimits(*MADE_OF["limits"]))
    answered = read_publication(welcome)
    assert isinstance(answered, Welcome)
    line.welcomed(answered, 0)
    return line, session, welcome


def plain(item: Any) -> Any:
    """An item as the vectors write it."""
    kind = {"RequestItem": "REQUEST", "ReplyItem": "REPLY", "Roster": "ROSTER"}.get(type(item).__name__)
    if kind is None:
        return {"kind": {"RosterQuery": "ROSTER_QUERY", "Report": "REPORT"}[type(item).__name__], "fields": list(item)}
    return {"kind": kind, **{name: _plain(getattr(item, name)) for name in item._fields}}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def check_error(caught: Any, expected: dict[str, Any]) -> None:
    assert type(caught.value) is ERRORS[expected["error"]]
    assert getattr(caught.value, "field", None) == expected["field"]


def test_every_vector_is_of_a_kind_that_is_proved_here() -> None:
    assert {vector["flags"][0] for vector in FILE["vectors"]} == set(KINDS)


@pytest.mark.parametrize("vector", of("credential"))
def test_credential(vector: dict[str, Any]) -> None:
    if not vector["valid"]:
        with pytest.raises(ValueError, match="relay's credential"):
            RelayCredential.parse(vector["line"])
        return
    credential = RelayCredential.parse(vector["line"])
    assert str(credential) == vector["line"].strip()
    told = {name: _plain(getattr(credential, name)) for name in ("network", "store", "code", "generation", "key")}
    assert told == {name: vector[name] for name in told}
    assert credential.topic == vector["topic"]
    assert vector["key"] not in repr(credential)


@pytest.mark.parametrize("vector", of("relay-key"))
def test_relay_key(vector: dict[str, Any]) -> None:
    key = relay_key(bytes.fromhex(vector["master"]), vector["code"], vector["generation"])
    assert key.hex() == vector["key"]


def test_the_keys_of_the_worked_example() -> None:
    key = RelayCredential.parse(MADE_OF["line"]).key
    nonce, session_id = bytes.fromhex(MADE_OF["relay_nonce"]), bytes.fromhex(MADE_OF["session_id"])
    assert derived(key, "tillwire hello", nonce).hex() == MADE_OF["keys"]["hello"]
    assert derived(key, "tillwire welcome", nonce).hex() == MADE_OF["keys"]["welcome"]
    assert derived(key, "tillwire session up", nonce + session_id).hex() == MADE_OF["keys"]["up"]
    assert derived(key, "tillwire session down", nonce + session_id).hex() == MADE_OF["keys"]["down"]
    assert len(set(MADE_OF["keys"].values())) == 4


def test_both_ends_write_the_worked_example_byte_for_byte() -> None:
    made = {vector["id"]: vector for vector in FILE["vectors"]}
    _, hello = relay_that_said_hello()
    assert hello.hex() == made["hello"]["bytes"]
    line, session, welcome = both_ends()
    assert welcome.hex() == made["welcome"]["bytes"]
    up, down = made["up"]["steps"][0], made["down"]["steps"][0]
    asked = session.open(read_data(bytes.fromhex(up["bytes"])))
    assert line.close(asked[1], up["sent_ms"] - MADE_OF["server_time_ms"]).hex() == up["bytes"]
    told = line.open(read_data(bytes.fromhex(down["bytes"])), 0)
    assert session.close(told[2], down["server_time_ms"], down["roster_version"]).hex() == down["bytes"]


def read_data(payload: bytes) -> Data:
    publication = read_publication(payload)
    assert isinstance(publication, Data)
    return publication


@pytest.mark.parametrize("vector", of("hello"))
def test_hello(vector: dict[str, Any]) -> None:
    key = RelayCredential.parse(MADE_OF["line"]).key

    def take() -> BridgeSession:
        hello = read_publication(bytes.fromhex(vector["bytes"]))
        assert isinstance(hello, Hello)
        return BridgeSession(hello, key, vector["topic"], lambda _: bytes.fromhex(MADE_OF["session_id"]))

    if not vector["valid"]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - check_error looks at its kind
            take()
        check_error(caught, vector)
        return
    session = take()
    assert (session.wall_ms, session.software) == (vector["wall_ms"], vector["software"])


@pytest.mark.parametrize("vector", of("welcome"))
def test_welcome(vector: dict[str, Any]) -> None:
    line, _ = relay_that_said_hello()

    def take() -> LineLimits:
        welcome = read_publication(bytes.fromhex(vector["bytes"]))
        assert isinstance(welcome, Welcome)
        return line.welcomed(welcome, 0)

    if not vector["valid"]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - check_error looks at its kind
            take()
        check_error(caught, vector)
        assert not line.ready
        return
    assert take() == tuple(vector["limits"])
    assert line.session_id == bytes.fromhex(vector["session_id"])
    assert (line.bridge, line.server_time_ms(0)) == (vector["bridge"], vector["server_time_ms"])


@pytest.mark.parametrize("vector", of("up"))
def test_up(vector: dict[str, Any]) -> None:
    _, session, _ = both_ends()
    for step in vector["steps"]:
        if "error" in step:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - check_error looks at its kind
                session.open(read_data(bytes.fromhex(step["bytes"])))
            check_error(caught, step)
            continue
        sent_ms, items = session.open(read_data(bytes.fromhex(step["bytes"])))
        assert {"sent_ms": sent_ms, "items": [plain(item) for item in items]} == expected(step)
    assert vector["valid"] == all("error" not in step for step in vector["steps"])


@pytest.mark.parametrize("vector", of("down"))
def test_down(vector: dict[str, Any]) -> None:
    line, _, _ = both_ends()
    for step in vector["steps"]:
        if "error" in step:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - check_error looks at its kind
                line.open(read_data(bytes.fromhex(step["bytes"])), 0)
            check_error(caught, step)
            continue
        server_time_ms, roster_version, items = line.open(read_data(bytes.fromhex(step["bytes"])), 0)
        told = {"server_time_ms": server_time_ms, "roster_version": roster_version}
        assert {**told, "items": [plain(item) for item in items]} == expected(step)
    assert vector["valid"] == all("error" not in step for step in vector["steps"])


def expected(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "bytes"}


@pytest.mark.parametrize("vector", of("publication"))
def test_publication(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["bytes"]) + bytes(vector.get("zeros", 0))
    if not vector["valid"]:
        with pytest.raises(Malformed) as caught:
            read_publication(payload)
        check_error(caught, vector)
        return
    publication = read_publication(payload)
    if isinstance(publication, Data):
        told = {"type": "DATA", "session_id": publication.session_id.hex(), "sequence": publication.sequence}
        assert told == vector["publication"]
        assert len(publication.sealed) == vector["zeros"]
        return
    assert isinstance(publication, Goodbye)
    assert {"type": "GOODBYE", **{name: _plain(part) for name, part in publication._asdict().items()}} == vector[
        "publication"
    ]


def test_a_genuine_publication_shows_its_items_to_nobody_else() -> None:
    up = next(vector for vector in FILE["vectors"] if vector["id"] == "up")
    payload = bytes.fromhex(up["steps"][0]["bytes"])
    assert b"2000000000015" not in payload
    with pytest.raises(Malformed):
        read_up(read_data(payload).sealed)
