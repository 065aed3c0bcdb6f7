import pytest

from protocol.answers import (
    Answer,
    Balance,
    balance_detail,
    encode_body,
    hold_detail,
    outcome_of,
    provisional_detail,
    status_detail,
)
from protocol.codes import Outcome, StatusState
from protocol.fields import Malformed
from protocol.messages import ErrorMessage, answer_frame, decode, error_frame

ID = bytes.fromhex("0197c0de000070008000000000000002")
BALANCE = Balance(750, 0, 0, 0, 250, 20_261_231)
BODY = bytes.fromhex("96 00 cd01f4 00 96 cd02ee 00 00 00 ccfa ce0135296f 91 a2 6f6b c0")


def test_a_body_as_packed_by_hand() -> None:
    assert encode_body(Outcome.APPROVED, 500, 0, BALANCE, ["ok"]) == BODY
    assert encode_body(Outcome.BAD_CARD, 0, 0, None) == bytes.fromhex("96 66 00 00 c0 90 c0")
    assert encode_body(0, 200, -40, None) == bytes.fromhex("96 00 ccc8 d0d8 c0 90 c0")


def test_an_answer_frame_as_packed_by_hand() -> None:
    framed = answer_frame(ID, True, BODY)
    assert framed == bytes.fromhex("0000002e 94 40 c410") + ID + b"\xc3" + BODY
    assert int.from_bytes(framed[:4]) == len(framed) - 4


def test_details() -> None:
    greeting = Answer.from_body(encode_body(0, 0, 0, BALANCE, (), balance_detail("Anna")))
    assert greeting.greeting == "Anna"
    assert Answer.from_body(encode_body(0, 0, 0, BALANCE, (), balance_detail(None))).greeting is None
    held = Answer.from_body(encode_body(1, 320, 0, BALANCE, (), hold_detail(1_789_301_400_000)))
    assert (held.hold_until_ms, held.approved) == (1_789_301_400_000, True)
    status = Answer.from_body(encode_body(0, 0, 0, BALANCE, (), status_detail(StatusState.STANDS, BODY)))
    assert status.status == StatusState.STANDS
    assert status.original == Answer.from_body(BODY)
    assert Answer.from_body(encode_body(0, 0, 0, None, (), status_detail(0, None))).original is None


def test_a_balance_says_of_itself_that_it_is_provisional() -> None:
    provisional = Answer.from_body(encode_body(0, 0, 0, BALANCE, (), provisional_detail()))
    assert (provisional.provisional, provisional.greeting) == (True, None)
    assert not Answer.from_body(encode_body(0, 0, 0, BALANCE, (), balance_detail("Anna"))).provisional
    assert not Answer.from_body(BODY).provisional


def test_a_provisional_balance_may_say_how_old_it_is() -> None:
    aged = Answer.from_body(encode_body(0, 0, 0, BALANCE, (), provisional_detail(90_000)))
    assert (aged.provisional, aged.age_ms) == (True, 90_000)
    for detail in (provisional_detail(), b"\x93\xc0\xc3\xc0", balance_detail("Anna"), b"\xc0"):
        assert Answer.from_body(encode_body(0, 0, 0, BALANCE, (), detail)).age_ms is None
    with pytest.raises(Malformed, match="age_ms"):
        _ = Answer.from_body(encode_body(0, 0, 0, BALANCE, (), b"\x93\xc0\xc3\xff")).age_ms


@pytest.mark.parametrize("outcome", [0, 1, 100, 127, 128, 255, 256, 65_535, 65_536, 2**53 - 1])
def test_an_outcome_of_any_width_is_found(outcome: int) -> None:
    assert outcome_of(encode_body(outcome, 500, 0, BALANCE, ["ok"])) == outcome


def test_a_detail_of_another_operation_is_refused() -> None:
    answer = Answer.from_body(BODY)
    for read in (lambda: answer.greeting, lambda: answer.hold_until_ms, lambda: answer.status, lambda: answer.original):
        with pytest.raises(Malformed, match="detail"):
            read()


def test_approval_is_0_and_1_only() -> None:
    approved = [outcome for outcome in Outcome if Answer.from_body(encode_body(outcome, 0, 0, None)).approved]
    assert approved == [Outcome.APPROVED, Outcome.APPROVED_PARTIAL]
    assert not Answer.from_body(encode_body(200, 0, 0, None)).approved


def test_the_name_of_the_member_is_not_in_what_gets_logged() -> None:
    body = encode_body(0, 0, 0, BALANCE, ["Hello Anna"], balance_detail("Anna"))
    assert "Anna" not in repr(decode(answer_frame(ID, False, body)[4:]))


def test_a_long_error_text_is_cut_to_what_a_register_takes() -> None:
    message = decode(error_frame(ID, 6, "x" * 1_000)[4:])
    assert isinstance(message, ErrorMessage)
    assert message.text == "x" * 200
