"""The table of tokens and their accounts."""

import os
import random

import pytest

from ledger.remembered_cards import RememberedCards


def tokens(count: int) -> list[bytes]:
    return [os.urandom(16) for _ in range(count)]


def anew(token: bytes) -> bytes:
    """The same bytes, as they come with the next request."""
    return bytes(bytearray(token))


@pytest.mark.parametrize("entries_max", [1, 3, 8, 9, 1_000])
def test_a_token_leads_to_the_account_that_was_kept_last(entries_max: int) -> None:
    """Whatever is forgotten, nothing is ever remembered wrongly, and the last one kept is always there."""
    remembered, truth, some = RememberedCards(entries_max), dict[bytes, int](), tokens(200)
    dice = random.Random(7)  # noqa: S311 - what is drawn is no secret
    for _ in range(5_000):
        token = dice.choice(some)
        if dice.random() < 0.2:
            remembered.forget(token)
            truth.pop(token, None)
            assert remembered.get(anew(token)) is None
        else:
            account = truth[token] = dice.choice((1, 2**53, 2**64 - 1))
            remembered.keep(token, account)
            assert remembered.get(anew(token)) == account
        other = dice.choice(some)
        assert remembered.get(anew(other)) in (None, truth.get(other))


def test_it_remembers_no_more_than_it_may_and_forgets_the_oldest_first() -> None:
    remembered, some = RememberedCards(3), tokens(5)
    for number, token in enumerate(some):
        remembered.keep(token, number)
    remembered.keep(some[2], 9)
    assert [remembered.get(token) for token in some] == [None, None, 9, 3, 4]


@pytest.mark.parametrize(("share", "forgotten_max"), [(0.5, 0.012), (0.8, 0.08)])
def test_nearly_all_are_remembered_while_there_is_room(share: float, forgotten_max: float) -> None:
    places = 100_000
    remembered, some = RememberedCards(places), tokens(int(places * share))
    for number, token in enumerate(some):
        remembered.keep(token, number)
    forgotten = sum(remembered.get(token) is None for token in some)
    assert forgotten <= len(some) * forgotten_max


def test_bytes_of_two_tokens_together_are_no_token() -> None:
    """A bucket is one stretch of bytes, in which a token could also be found across the border of two others."""
    remembered = RememberedCards(8)
    first, second = bytes(range(16)), bytes(range(16, 32))
    remembered.keep(first, 1)
    remembered.keep(second, 2)
    across = bytes(range(8, 24))
    assert remembered.get(across) is None
    remembered.keep(across, 3)
    assert [remembered.get(token) for token in (first, second, across)] == [1, 2, 3]


def test_no_card_leads_to_no_account() -> None:
    """An operator names an account and no card."""
    remembered, (token,) = RememberedCards(1), tokens(1)
    remembered.keep(token, 10)
    assert remembered.get(b"") is None
    remembered.forget(b"")
    assert remembered.get(token) == 10
