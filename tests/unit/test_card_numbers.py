import pytest

from admin_api.cards.card_numbers import Series, grouped
from protocol.codes import CardKind
from protocol.tokens import canonical

SEED = bytes(range(16))


@pytest.mark.parametrize(
    ("series", "numbers"),
    [
        (
            Series(CardKind.EAN13, "29", 0, scattered=True, seed=SEED),
            ["2950714374615", "2987194116923", "2994497282880"],
        ),
        (
            Series(CardKind.PAN, "964310", 5, scattered=True, seed=SEED),
            ["9643105020526035", "9643109330231450", "9643104463714083"],
        ),
        (
            Series(CardKind.VIRTUAL, "w-", 0, scattered=True, seed=SEED),
            ["w-_9zMJizval1Plgmtl22L", "w-nFFy7LuBaELtWseJ33Jw", "w-Nis6Agde0AePHxQyYqb3"],
        ),
        (
            Series(CardKind.EAN13, "29", 41, scattered=False, seed=SEED),
            ["2900000000414", "2900000000421", "2900000000438"],
        ),
    ],
)
def test_numbers_of_a_batch_that_was_printed_are_made_again_by_every_later_version(
    series: Series, numbers: list[str]
) -> None:
    assert [series.number(place) for place in range(3)] == numbers


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 1000])
def test_scattered_places_are_a_permutation(size: int) -> None:
    width = 12 - len(str(size - 1))
    series = Series(CardKind.EAN13, "2" * width, 10 ** (12 - width) - size, scattered=True, seed=SEED)
    assert series.size == size
    assert len({series.number(place) for place in range(size)}) == size


def test_places_that_were_taken_are_left_out() -> None:
    series = Series(CardKind.EAN13, "29", 0, scattered=False, seed=SEED, skipped=frozenset({0, 2}))
    places = series.places()
    assert [next(places) for _ in range(3)] == [1, 3, 4]


@pytest.mark.parametrize(
    ("kind", "number", "shown"),
    [
        (CardKind.EAN13, "2000000000015", "2 000000 000015"),
        (CardKind.PAN, "9643100000000010", "9643 1000 0000 0010"),
        (CardKind.VIRTUAL, "wallet-7Hq2ZkP0", "wallet-7Hq2ZkP0"),
    ],
)
def test_numbers_are_grouped_for_reading(kind: CardKind, number: str, shown: str) -> None:
    assert canonical(kind, number)
    assert grouped(kind, number) == shown
