"""The committed vectors, which every other implementation is held to, hold for this one."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol import tokens
from protocol.answers import Answer
from protocol.codes import ErrorCode, Goodbye, Message
from protocol.connection import ServerConnection
from protocol.events import Authenticated, Closed, HelloReceived
from protocol.fields import Malformed, UnknownType
from protocol.framing import FrameEmpty, FrameReader, FrameTooLarge
from protocol.messages import AnswerMessage, decode, encode, name_of
from protocol.requests import Card, Receipt
from protocol.scram import AuthenticationFailed, ClientExchange, Credentials, ServerExchange, credentials
from protocol.session import Limits, Profile

FOLDER = Path(__file__).parents[2] / "protocol" / "vectors"
CHUNK_BYTES = (1, 2, 3, 5, 8, 13, 4_096)


def load(name: str) -> list[Any]:
    return [pytest.param(vector, id=vector["id"]) for vector in json.loads((FOLDER / name).read_text())["vectors"]]


def in_chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def plain(value: Any) -> Any:
    """A decoded field as the vectors write it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Card):
        return {"kind": value.kind, "value": value.value}
    if isinstance(value, Receipt):
        return value._asdict()
    if isinstance(value, Answer):
        return {name: plain(getattr(value, name)) for name in Answer.__dataclass_fields__}
    if isinstance(value, tuple):
        return [plain(element) for element in value]
    return value


def test_every_file_is_proved_here_and_every_id_is_unique() -> None:
    files = {path.name for path in FOLDER.glob("*.json")}
    # Those of the line between relay and bridge are proved in test_relay_vectors.py.
    assert files == {"dialogues.json", "frames.json", "messages.json", "relay.json", "scram.json", "tokens.json"}
    for name in files:
        vectors = json.loads((FOLDER / name).read_text())["vectors"]
        ids = [vector["id"] for vector in vectors]
        assert len(ids) == len(set(ids)), name
        assert all({"comment", "flags", "valid"} <= vector.keys() for vector in vectors), name
        assert any(not vector["valid"] for vector in vectors), name


def test_every_message_of_the_protocol_has_a_vector() -> None:
    vectors = json.loads((FOLDER / "messages.json").read_text())["vectors"]
    assert {vector["message"]["type"] for vector in vectors if vector["valid"]} == {message.name for message in Message}


@pytest.mark.parametrize("vector", load("tokens.json"))
def test_token(vector: dict[str, Any]) -> None:
    if vector["valid"]:
        assert tokens.canonical(vector["kind"], vector["value"]) == vector["token"]
        return
    with pytest.raises(tokens.BadCard) as caught:
        tokens.canonical(vector["kind"], vector["value"])
    assert vector["value"] not in caught.value.reason


@pytest.mark.parametrize("size", CHUNK_BYTES)
@pytest.mark.parametrize("vector", load("frames.json"))
def test_frames(vector: dict[str, Any], size: int) -> None:
    reader = FrameReader(vector["frame_bytes_max"])
    frames: list[str] = []
    error = None
    try:
        for chunk in in_chunks(bytes.fromhex(vector["bytes"]), size):
            frames.extend(frame.hex() for frame in reader.feed(chunk))
    except FrameEmpty:
        error = "EMPTY"
    except FrameTooLarge:
        error = "TOO_LARGE"
    assert (frames, error) == (vector["frames"], vector["error"])
    if error is None:
        assert reader.buffered_bytes == vector["left"]


@pytest.mark.parametrize("vector", load("messages.json"))
def test_message(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["bytes"])
    if not vector["valid"]:
        with pytest.raises((Malformed, UnknownType)) as caught:
            read_detail(decode(payload), vector)
        error = caught.value
        assert ("MALFORMED" if isinstance(error, Malformed) else "UNKNOWN_TYPE") == vector["error"]
        assert getattr(error, "field", None) == vector["field"]
        assert (error.request_id.hex() if error.request_id else None) == vector["request_id"]
        return
    message = decode(payload)
    names = [name for name in type(message).__dataclass_fields__ if name not in ("op", "type", "layout", "own_fields")]
    assert {"type": name_of(message), **{name: plain(getattr(message, name)) for name in names}} == vector["message"]
    framed = encode(message)
    assert int.from_bytes(framed[:4]) == len(framed) - 4
    assert decode(framed[4:]) == message
    if vector["shortest"]:
        assert framed[4:] == payload
    if isinstance(message, AnswerMessage):
        assert Answer.from_body(message.body) == message.answer
    read_detail(message, vector)


def read_detail(message: object, vector: dict[str, Any]) -> None:
    """What a register makes of a BALANCE answer's detail."""
    if "balance" in vector["flags"]:
        assert isinstance(message, AnswerMessage)
        assert (message.answer.provisional, message.answer.age_ms) == (vector.get("provisional"), vector.get("age_ms"))
        if "greeting" in vector:
            assert message.answer.greeting == vector["greeting"]


@pytest.mark.parametrize("vector", load("scram.json"))
def test_scram(vector: dict[str, Any]) -> None:
    client = ClientExchange(vector["username"], vector["secret"], vector["client_nonce"])
    known = credentials(vector["secret"], bytes.fromhex(vector["salt"]), vector["iterations"])
    for step in exchange_steps(vector, client, known):
        refused = step[0] == vector["refused_by"]
        if refused:
            with pytest.raises(AuthenticationFailed):
                step[1]()
            return
        assert step[1]() == step[2], step[0]
    assert vector["valid"]


def exchange_steps(vector: dict[str, Any], client: ClientExchange, known: Credentials) -> list[Any]:
    server: list[ServerExchange] = []

    def open_server() -> str:
        server.append(ServerExchange(vector["client_first"]))
        return server[0].username

    steps: list[Any] = [
        ("server:client_first", open_server, vector["username"]),
        ("server:challenge", lambda: server[0].challenge(known, vector["server_nonce"]), vector["server_first"]),
        ("client:server_first", lambda: client.respond(vector["server_first"]), vector["client_final"]),
        ("server:client_final", lambda: server[0].verify(vector["client_final"]), vector["server_final"]),
        ("client:server_final", lambda: client.verify(vector["server_final"]), None),
    ]
    # What one side altered is no longer what the other side would have made.
    altered = {"client:server_first": 1, "server:client_final": 2, "client:server_final": 3}.get(vector["refused_by"])
    if altered is not None:
        del steps[altered]
    if vector.get("checks") == "client":
        steps = [step for step in steps if step[0].startswith("client:")]
    return steps


@pytest.mark.parametrize("size", CHUNK_BYTES)
@pytest.mark.parametrize("vector", load("dialogues.json"))
def test_dialogue(vector: dict[str, Any], size: int) -> None:
    settings = json.loads((FOLDER / "dialogues.json").read_text())["server"]
    connection = ServerConnection(
        settings["accepted_ms"],
        handshake_timeout_ms=settings["handshake_timeout_ms"],
        frame_timeout_ms=settings["frame_timeout_ms"],
    )
    closed: list[str] = []
    for number, step in enumerate(vector["steps"]):
        now_ms = step["at_ms"]
        found = list(connection.handle_timeout(now_ms))
        for chunk in in_chunks(bytes.fromhex(step.get("receive", "")), size):
            for event in connection.receive_data(chunk, now_ms):
                found.append(event)
                play_the_shell(connection, event, settings, step, now_ms)
        do(connection, step.get("do"))
        assert connection.data_to_send().hex() == step["send"], number
        closed += [Goodbye(event.reason).name for event in found if isinstance(event, Closed)]
        assert connection.closed == bool(closed or step["closed"]), number
        if step["closed"] is not None and closed:
            assert closed == [step["closed"]], number


def play_the_shell(
    connection: ServerConnection, event: object, settings: dict[str, Any], step: dict[str, Any], now_ms: int
) -> None:
    if isinstance(event, HelloReceived):
        assert event.terminal_id == settings["terminal_id"]
        known = Credentials(
            bytes.fromhex(settings["salt"]),
            settings["iterations"],
            bytes.fromhex(settings["stored_key"]),
            bytes.fromhex(settings["server_key"]),
        )
        connection.challenge(known, settings["server_nonce"])
    elif isinstance(event, Authenticated):
        if step.get("suspended"):
            connection.goodbye(Goodbye.SUSPENDED, "suspended")
            return
        name, currency, permitted = settings["profile"]
        connection.welcome(now_ms, Limits(*settings["limits"]), Profile(name, currency, tuple(permitted)))


def do(connection: ServerConnection, what: dict[str, Any] | None) -> None:
    if what is None:
        return
    if "answer" in what:
        connection.send_answer(bytes.fromhex(what["answer"]), what["replayed"], bytes.fromhex(what["body"]))
    elif "error" in what:
        code = ErrorCode(what["code"])
        connection.send_error(bytes.fromhex(what["error"]), code, what["text"], what["retry_after_ms"])
    else:
        connection.goodbye(Goodbye(what["goodbye"]), what["text"], what["reconnect_after_ms"])
