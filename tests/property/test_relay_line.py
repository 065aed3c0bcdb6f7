"""The line between relay and bridge under a broker that does what it likes, and under any bytes whatever."""

import os
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import INT_MAX
from protocol.fields import Malformed
from protocol.relay_keys import NotGenuine, RelayCredential
from protocol.relay_line import WINDOW, BridgeSession, RelayLine, Repeated, SequenceWindow
from protocol.relay_messages import (
    AnyPublication,
    Data,
    DownItem,
    Goodbye,
    Hello,
    LineLimits,
    RedeemRules,
    ReplyItem,
    Report,
    RequestItem,
    Roster,
    RosterQuery,
    RosterTerminal,
    UpItem,
    Welcome,
    hello_content,
    read_down,
    read_hello_content,
    read_publication,
    read_up,
    read_welcome_content,
    welcome_content,
    write_down,
    write_publication,
    write_up,
)

numbers = st.integers(0, INT_MAX)
ids = st.binary(min_size=16, max_size=16)
codes = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
letters = st.characters(exclude_categories=("Cs",), exclude_characters="".join(map(chr, [*range(32), 127])))
texts = st.text(letters, max_size=64)
up_items: st.SearchStrategy[UpItem] = st.one_of(
    st.builds(RequestItem, codes, st.binary(max_size=300), st.none() | numbers, st.none() | ids),
    st.builds(RosterQuery, numbers),
    st.builds(Report, *[numbers] * 4),
)
terminals = st.builds(
    RosterTerminal,
    codes,
    st.booleans(),
    st.lists(numbers, max_size=16).map(tuple),
    st.binary(max_size=64),
    numbers,
    st.binary(max_size=64),
    st.binary(max_size=64),
)
down_items: st.SearchStrategy[DownItem] = st.one_of(
    st.builds(ReplyItem, codes, st.binary(max_size=300)),
    st.builds(
        Roster,
        numbers,
        texts,
        st.just("EUR"),
        numbers,
        numbers,
        st.lists(terminals, max_size=4).map(tuple),
        st.builds(RedeemRules, *[numbers] * 3),
    ),
)
publications: st.SearchStrategy[AnyPublication] = st.one_of(
    st.builds(Hello, numbers, codes, numbers, ids, st.binary(max_size=99)),
    st.builds(Welcome, codes, ids, st.binary(max_size=99)),
    st.builds(Data, ids, st.integers(1, INT_MAX), st.binary(max_size=99)),
    st.builds(Goodbye, ids, numbers, texts),
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)
values = st.recursive(
    plain_values | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=12,
)
CREDENTIAL = RelayCredential("demo", "0042", "R-0042", 1, bytes(range(32)))
LIMITS = LineLimits(256, 64, 1_000, 10_000, 5_000, 30_000)


def pair() -> tuple[RelayLine, BridgeSession]:
    line = RelayLine(CREDENTIAL, "test", os.urandom)
    hello = read_publication(line.hello(0))
    assert isinstance(hello, Hello)
    session = BridgeSession(hello, CREDENTIAL.key, CREDENTIAL.topic, os.urandom)
    welcome = read_publication(session.welcome("bridge", 0, LIMITS))
    assert isinstance(welcome, Welcome)
    line.welcomed(welcome, 0)
    return line, session


def taken(open_data: Callable[[Data], list[int]], payload: bytes) -> list[int] | None:
    """What was taken of a payload, None when it was refused in a documented way."""
    try:
        publication = read_publication(payload)
        return open_data(publication) if isinstance(publication, Data) else None
    except (NotGenuine, Repeated, Malformed):
        return None


# What a hostile broker does with one of the things it has seen: which, and what becomes of it.
deeds = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from(["deliver", "deliver", "deliver", "alter", "cut", "renumber", "reflect", "other session"]),
        st.integers(0, 10_000),
    ),
    max_size=80,
)


@given(st.integers(1, 30), st.integers(1, 30), deeds)
def test_each_publication_is_taken_once_and_nothing_else_ever(
    ups: int, downs: int, deeds: list[tuple[int, str, int]]
) -> None:
    line, session = pair()
    _, stranger = pair()
    sent_up = [line.close([RosterQuery(number)], 0) for number in range(ups)]
    sent_down = [session.close([ReplyItem("T", str(number).encode())], 0, 0) for number in range(downs)]
    heard_up: list[int] = []
    heard_down: list[int] = []

    def open_up(data: Data) -> list[int]:
        return [item.known_version for item in session.open(data)[1] if isinstance(item, RosterQuery)]

    def open_down(data: Data) -> list[int]:
        return [int(item.message) for item in line.open(data, 0)[2] if isinstance(item, ReplyItem)]

    genuine_up: set[int] = set()
    genuine_down: set[int] = set()
    for which, deed, detail in deeds:
        upward = which % 2 == 0
        sent = sent_up if upward else sent_down
        number = which // 2 % len(sent)
        payload = sent[number]
        if deed == "alter":
            at = detail % len(payload)
            payload = payload[:at] + bytes([payload[at] ^ (1 << detail % 8)]) + payload[at + 1 :]
        elif deed == "cut":
            payload = payload[: detail % len(payload)]
        elif deed == "renumber":
            data = read_publication(payload)
            assert isinstance(data, Data)
            payload = write_publication(data._replace(sequence=data.sequence + 1 + detail))
        elif deed == "deliver":
            (genuine_up if upward else genuine_down).add(number)
        if deed == "other session":
            assert taken(lambda data: [len(stranger.open(data)[1])], payload) is None
        elif upward != (deed == "reflect"):
            heard_up += taken(open_up, payload) or []
        else:
            heard_down += taken(open_down, payload) or []
    assert sorted(heard_up) == sorted(genuine_up)
    assert sorted(heard_down) == sorted(genuine_down)


@given(st.lists(st.one_of(st.integers(1, 40), st.integers(1, 3 * WINDOW), st.integers(1, INT_MAX)), max_size=60))
def test_the_window_is_the_set_of_what_came_as_far_back_as_it_looks(sequence_numbers: list[int]) -> None:
    window = SequenceWindow()
    came: set[int] = set()
    for number in sequence_numbers:
        new = number not in came and number > max(came, default=0) - WINDOW
        if new:
            window.take(number)
            came.add(number)
        else:
            with pytest.raises(Repeated):
                window.take(number)


@given(numbers, st.lists(up_items, max_size=20))
def test_what_goes_up_arrives_as_it_was(sent_ms: int, items: list[UpItem]) -> None:
    assert read_up(write_up(sent_ms, items)) == (sent_ms, items)


@given(numbers, numbers, st.lists(down_items, max_size=10))
def test_what_goes_down_arrives_as_it_was(server_time_ms: int, version: int, items: list[DownItem]) -> None:
    assert read_down(write_down(server_time_ms, version, items)) == (server_time_ms, version, items)


@given(publications)
def test_publications_arrive_as_they_were(publication: AnyPublication) -> None:
    assert read_publication(write_publication(publication)) == publication


@given(numbers, texts, ids, numbers, st.builds(LineLimits, *[numbers] * 6))
def test_what_a_handshake_seals_arrives_as_it_was(
    time_ms: int, software: str, session_id: bytes, server_time_ms: int, limits: LineLimits
) -> None:
    assert read_hello_content(hello_content(time_ms, software)) == (time_ms, software)
    sealed = welcome_content(session_id, server_time_ms, limits)
    assert read_welcome_content(sealed) == (session_id, server_time_ms, limits)


@given(publications, st.lists(plain_values, max_size=3))
def test_later_fields_of_a_publication_change_nothing(publication: AnyPublication, later: list[object]) -> None:
    fields = msgpack.unpackb(write_publication(publication))
    assert read_publication(msgpack.packb([*fields, *later])) == publication


@given(st.lists(up_items, max_size=5), st.integers(4, 255), plain_values, st.lists(plain_values, max_size=3))
def test_later_items_and_fields_change_nothing(
    items: list[UpItem], unknown: int, something: object, later: list[object]
) -> None:
    sent_ms, packed = msgpack.unpackb(write_up(7, items))
    mixed = [part for item in packed for part in ([*item, *later], [unknown, something])]
    assert read_up(msgpack.packb([sent_ms, mixed, *later])) == (7, items)


READERS = (read_publication, read_up, read_down, read_hello_content, read_welcome_content)


def read_or_refuse(payload: bytes) -> None:
    refused: list[Malformed] = []
    for read in READERS:
        try:
            read(payload)
        except Malformed as error:
            refused.append(error)
    assert all(error.field and error.request_id is None for error in refused)


@given(st.one_of(st.binary(max_size=400), values.map(msgpack.packb)))
def test_any_bytes_are_read_or_malformed(payload: bytes) -> None:
    read_or_refuse(payload)


@given(
    st.one_of(
        publications.map(write_publication), st.lists(up_items, max_size=3).map(lambda items: write_up(1, items))
    ),
    st.data(),
)
def test_altered_bytes_are_read_or_malformed(payload: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(payload) - 1))
    altered = payload[:at] + data.draw(st.binary(max_size=4)) + payload[at + data.draw(st.integers(0, 4)) :]
    read_or_refuse(altered)


@given(st.text(max_size=200) | st.text("tilwre-ay1/AbC_.:+#09=\n ", max_size=120).map("tillwire-relay-1/".__add__))
def test_any_text_is_a_credential_or_a_clear_error(line: str) -> None:
    told = ""
    try:
        credential = RelayCredential.parse(line)
        assert RelayCredential.parse(str(credential)) == credential
    except ValueError as error:
        told = str(error)
    assert not told or "relay's credential" in told
