from dataclasses import replace
from hashlib import blake2b

import pytest

from protocol.codes import CardKind, Message
from protocol.messages import decode, encode
from protocol.requests import (
    REQUESTS,
    BalanceRequest,
    Card,
    EarnRequest,
    Receipt,
    RedeemRequest,
    ReplaceRequest,
    Request,
    SaleRequest,
    fingerprint,
)

ID = bytes.fromhex("0197c0de000070008000000000000002")
EAN = Card(CardKind.EAN13, "2000000000015")
PAN = Card(CardKind.PAN, "9643100000000010")
TRACK = Card(CardKind.TRACK, ";9643100000000010=25121010000?")
RECEIPT = Receipt(2_500, "EUR", "0042-1")
REDEEM = RedeemRequest(ID, 5_000, EAN, 500, RECEIPT)
EARN = EarnRequest(ID, 0, EAN, RECEIPT, None, 1_789_300_800_000)


def test_every_operation_has_one_class() -> None:
    operations = [message for message in Message if 16 <= message <= 63]
    assert sorted(request.op for request in REQUESTS) == operations


def test_fingerprint_is_blake2b_of_the_documented_content() -> None:
    content = bytes.fromhex(
        "97"  # array of 7
        "c410 0197c0de000070008000000000000002"  # request_id
        "a6 542d30303031"  # terminal T-0001
        "11"  # REDEEM
        "b3 65616e31333a32303030303030303030303135"  # ean13:2000000000015
        "cd01f4"  # points
        "93 cd09c4 a3455552 a6303034322d31"  # receipt
        "c2"  # allow_partial
    )
    assert fingerprint(REDEEM, "T-0001") == blake2b(content, digest_size=8).digest()


def test_a_retry_may_change_the_ttl_and_the_way_the_card_was_read() -> None:
    assert fingerprint(REDEEM, "T") == fingerprint(replace(REDEEM, ttl_ms=1), "T")
    assert fingerprint(BalanceRequest(ID, 0, PAN), "T") == fingerprint(BalanceRequest(ID, 0, TRACK), "T")
    old, new = ReplaceRequest(ID, 0, EAN, PAN), ReplaceRequest(ID, 0, EAN, TRACK)
    assert fingerprint(old, "T") == fingerprint(new, "T")


def test_an_earn_may_come_again_as_an_advice() -> None:
    assert fingerprint(EARN, "T") == fingerprint(replace(EARN, offline=True, sale_time_ms=1), "T")
    assert fingerprint(EARN, "T") != fingerprint(replace(EARN, eligible_amount=0), "T")


@pytest.mark.parametrize(
    "other",
    [
        replace(REDEEM, request_id=bytes(16)),
        replace(REDEEM, card=PAN),
        replace(REDEEM, points=501),
        replace(REDEEM, receipt=RECEIPT._replace(amount=1)),
        replace(REDEEM, receipt=RECEIPT._replace(currency="USD")),
        replace(REDEEM, receipt=RECEIPT._replace(reference="")),
        replace(REDEEM, allow_partial=True),
        SaleRequest(ID, 5_000, EAN, RECEIPT, 500),
    ],
)
def test_other_content_has_another_fingerprint(other: Request) -> None:
    assert fingerprint(other, "T") != fingerprint(REDEEM, "T")


def test_cards_that_lead_to_no_token_are_told_apart() -> None:
    one, other = Card(1, "2000000000016"), Card(1, "2000000000017")
    assert one.token is None
    assert fingerprint(BalanceRequest(ID, 0, one), "T") != fingerprint(BalanceRequest(ID, 0, other), "T")


def test_no_card_number_in_what_gets_logged() -> None:
    assert repr(BalanceRequest(ID, 0, PAN)).count("9643100000000010") == 0
    assert "9643********0010" in repr(PAN)
    assert "25121010000" not in repr(TRACK)
    assert "1234" not in repr(Card(CardKind.PAN, "1234"))


def test_requests_hold_nothing_but_their_fields() -> None:
    assert not hasattr(REDEEM, "__dict__")
    assert not hasattr(EAN, "__dict__")


def test_decoding_gives_the_card_its_token() -> None:
    decoded = decode(encode(BalanceRequest(ID, 0, TRACK))[4:])
    assert isinstance(decoded, BalanceRequest)
    assert decoded.card.token == "pan:9643100000000010"
