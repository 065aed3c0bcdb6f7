import pytest

from protocol.tokens import BadCard, canonical, ean13_check_digit, luhn_check_digit, masked


def test_check_digits_of_known_numbers() -> None:
    assert ean13_check_digit("629104150021") == "3"
    assert ean13_check_digit("200000000001") == "5"
    assert luhn_check_digit("411111111111111") == "1"
    assert luhn_check_digit("964310000000001") == "0"


@pytest.mark.parametrize("wrong", ["", "1", "20000000000a", "2000000000015", "\u0662" * 12])
def test_check_digits_need_digits(wrong: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        ean13_check_digit(wrong)
    with pytest.raises(ValueError, match="digits"):
        luhn_check_digit(wrong)


def test_check_digits_complete_cards_and_every_other_digit_is_refused() -> None:
    for number in range(0, 10**12, 4_987_654_321):
        first12, first15 = f"{number:012}", f"{number * 987:015}"
        for kind, first, right in ((1, first12, ean13_check_digit(first12)), (2, first15, luhn_check_digit(first15))):
            assert canonical(kind, first + right).endswith(first + right)
            for digit in set("0123456789") - {right}:
                with pytest.raises(BadCard, match="check digit"):
                    canonical(kind, first + digit)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("ean13:2000000000015", "ean13:2000*****0015"),
        ("pan:9643100000000010", "pan:9643********0010"),
        ("phone:+4915112345678", "phone:************78"),
        ("phone:+1234567", "phone:******67"),
        ("virtual:wallet-7Hq2ZkP0", "virtual:wall*******ZkP0"),
        ("virtual:abcdefgh", "virtual:ab****gh"),
    ],
)
def test_masked(token: str, expected: str) -> None:
    assert masked(token) == expected


def test_masked_hides_everything_of_what_is_too_short() -> None:
    assert masked("virtual:ab") == "virtual:**"
    assert masked("virtual:") == "virtual:"
