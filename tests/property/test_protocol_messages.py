"""Any message survives the wire, and no bytes whatever make the decoder raise anything but its documented errors."""

import tracemalloc

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.answers import Answer, Balance, balance_detail, encode_body, hold_detail, status_detail
from protocol.codes import AMOUNT_MAX, INT_MAX, CardKind, Message
from protocol.fields import Malformed, UnknownType
from protocol.messages import AnswerMessage, ErrorMessage, WireMessage, answer_frame, decode, encode, glance
from protocol.requests import (
    REQUESTS,
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReplaceRequest,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
    fingerprint,
)
from protocol.session import Challenge, Farewell, Hello, Limits, Ping, Pong, Profile, Proof, Welcome

ids = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, INT_MAX)
amounts = st.integers(0, AMOUNT_MAX)
some = st.integers(1, AMOUNT_MAX)
letters = st.characters(exclude_categories=("Cs",), exclude_characters="".join(map(chr, [*range(32), 127])))
currencies = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)


def texts(low: int, high: int) -> st.SearchStrategy[str]:
    return st.text(letters, min_size=low, max_size=high)


any_value = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=128)
cards = st.one_of(
    st.builds(Card, numbers, any_value),
    st.builds(Card, st.just(CardKind.PHONE), st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)),
    st.just(Card(CardKind.EAN13, "2000000000015")),
)
receipts = st.builds(Receipt, amounts, currencies, texts(0, 64))
eligible = st.none() | amounts
requests = st.one_of(
    st.builds(BalanceRequest, ids, numbers, cards),
    st.builds(RedeemRequest, ids, numbers, cards, some, receipts, st.booleans()),
    st.builds(HoldRequest, ids, numbers, cards, some, receipts, st.booleans(), numbers),
    st.builds(CaptureRequest, ids, numbers, cards, ids, amounts, receipts),
    st.builds(ReleaseRequest, ids, numbers, cards, ids),
    st.builds(EarnRequest, ids, numbers, cards, receipts, eligible, numbers, st.booleans()),
    st.builds(SaleRequest, ids, numbers, cards, receipts, amounts, st.booleans(), eligible),
    st.builds(RefundRequest, ids, numbers, cards, ids, receipts),
    st.builds(ReverseRequest, ids, numbers, cards, ids),
    st.builds(StatusRequest, ids, numbers, cards, ids),
    st.builds(ActivateRequest, ids, numbers, cards),
    st.builds(BlockRequest, ids, numbers, cards, st.integers(0, 4)),
    st.builds(ReplaceRequest, ids, numbers, cards, cards),
)
terminal_ids = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
session_messages = st.one_of(
    st.builds(
        Hello,
        st.lists(numbers, min_size=1, max_size=16).map(tuple),
        terminal_ids,
        texts(1, 256),
        texts(0, 64),
    ),
    st.builds(Challenge, numbers, texts(1, 512)),
    st.builds(Proof, texts(1, 512)),
    st.builds(
        Welcome,
        texts(1, 256),
        numbers,
        st.builds(Limits, *[numbers] * 6),
        st.builds(Profile, texts(0, 64), currencies, st.lists(numbers, max_size=32).map(tuple)),
    ),
    st.builds(Farewell, numbers, texts(0, 200), numbers),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers, numbers),
    st.builds(ErrorMessage, ids, numbers, texts(0, 200), numbers),
)
details = st.one_of(
    st.just(b"\xc0"),
    st.builds(balance_detail, st.none() | texts(0, 64)),
    st.builds(hold_detail, numbers),
)
bodies = st.builds(
    encode_body,
    numbers,
    numbers,
    st.integers(-INT_MAX, INT_MAX),
    st.none() | st.builds(Balance, *[numbers] * 6),
    st.lists(texts(0, 96), max_size=32),
    details,
)
messages = st.one_of(requests, session_messages)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=70),
    st.binary(max_size=20),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=12,
)


def decode_or_refuse(payload: bytes) -> WireMessage | None:
    refused: list[Malformed | UnknownType] = []
    try:
        return decode(payload)
    except (Malformed, UnknownType) as error:
        refused.append(error)
    assert refused[0].request_id is None or len(refused[0].request_id) == 16
    return None


def test_every_operation_is_generated() -> None:
    assert {request.op for request in REQUESTS} == {op for op in Message if 16 <= op <= 63}


@given(messages)
def test_round_trip(message: WireMessage) -> None:
    framed = encode(message)
    assert int.from_bytes(framed[:4]) == len(framed) - 4
    assert decode(framed[4:]) == message


@given(ids, st.booleans(), bodies, st.none() | bodies)
def test_answers_carry_their_body_byte_for_byte(
    request_id: bytes, replayed: bool, body: bytes, original: bytes | None
) -> None:
    status = encode_body(0, 0, 0, None, (), status_detail(1, original))
    for packed in (body, status):
        framed = answer_frame(request_id, replayed, packed)
        message = decode(framed[4:])
        assert isinstance(message, AnswerMessage)
        assert (message.request_id, message.replayed, message.body) == (request_id, replayed, packed)
        assert message.answer == Answer.from_body(packed)
        assert encode(message) == framed
    assert Answer.from_body(status).original == (None if original is None else Answer.from_body(original))
    if original is not None:
        assert original in status


@given(messages, st.lists(values.filter(lambda value: not holds_map_or_ext(value)), max_size=3))
def test_trailing_elements_change_nothing(message: WireMessage, trailing: list[object]) -> None:
    fields = msgpack.unpackb(encode(message)[4:])
    assert decode(msgpack.packb([*fields, *trailing])) == message


def holds_map_or_ext(value: object) -> bool:
    if isinstance(value, dict | msgpack.ExtType):
        return True
    return isinstance(value, list) and any(holds_map_or_ext(inner) for inner in value)


@given(st.binary(max_size=400))
@example(b"\xc7\x00\xff")
def test_random_bytes(payload: bytes) -> None:
    decode_or_refuse(payload)


@given(st.lists(values, max_size=10))
def test_random_values(elements: list[object]) -> None:
    decode_or_refuse(msgpack.packb(elements))


@given(st.sampled_from(sorted(Message)), ids, st.lists(values, max_size=8))
def test_random_fields_behind_a_good_type_and_id(kind: Message, request_id: bytes, fields: list[object]) -> None:
    decode_or_refuse(msgpack.packb([kind, request_id, *fields]))


@given(messages, st.data())
def test_one_wrong_field_is_named_or_harmless(message: WireMessage, data: st.DataObject) -> None:
    fields = msgpack.unpackb(encode(message)[4:])
    at = data.draw(st.integers(1, len(fields) - 1))
    fields[at] = data.draw(values)
    payload = msgpack.packb(fields)
    found = decode_or_refuse(payload)
    if found is not None:
        assert decode(encode(found)[4:]) == found
        assert type(found) is type(message)


@given(messages, st.data())
def test_missing_fields_are_refused(message: WireMessage, data: st.DataObject) -> None:
    fields = msgpack.unpackb(encode(message)[4:])
    kept = data.draw(st.integers(1, len(fields) - 1))
    with pytest.raises(Malformed, match="missing"):
        decode(msgpack.packb(fields[:kept]))


@given(messages, st.data())
def test_mutated_bytes(message: WireMessage, data: st.DataObject) -> None:
    payload = bytearray(encode(message)[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    decode_or_refuse(bytes(payload))
    decode_or_refuse(bytes(payload[:cut]))


@given(messages)
def test_a_glance_sees_the_operation_and_the_id_of_requests_alone(message: WireMessage) -> None:
    seen = glance(encode(message)[4:])
    assert seen == ((message.op, message.request_id) if isinstance(message, tuple(REQUESTS)) else None)


@given(st.binary(max_size=64))
def test_a_glance_at_anything_does_no_harm(payload: bytes) -> None:
    glance(payload)


@given(requests, requests, terminal_ids)
def test_fingerprint_is_the_content(one: object, other: object, terminal_id: str) -> None:
    assert isinstance(one, tuple(REQUESTS))
    assert isinstance(other, tuple(REQUESTS))
    content_of_one, content_of_other = (
        (request.op, request.request_id, request.card.identity, request.identity()) for request in (one, other)
    )
    same = fingerprint(one, terminal_id) == fingerprint(other, terminal_id)
    assert same == (content_of_one == content_of_other)
    assert fingerprint(one, terminal_id) != fingerprint(one, terminal_id + "x")


@pytest.mark.parametrize(
    "payload",
    [b"\xdc\xff\xff" * 21_845, b"\xdd\x00\x00\xff\xff" * 13_107, b"\xdd\xff\xff\xff\xff", b"\xdc\x00\xff" * 21_845],
    ids=["nested array 16", "nested array 32", "four billion elements", "nested arrays within the limit"],
)
def test_announced_arrays_take_no_memory(payload: bytes) -> None:
    tracemalloc.start()
    try:
        assert decode_or_refuse(payload) is None
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
