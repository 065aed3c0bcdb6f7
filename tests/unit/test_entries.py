"""Which batches one commit can take, and what seals and greetings are bound to."""

from typing import cast

import msgpack
import pytest

from ledger.clock import SystemClock
from ledger.entries import Memo, continuous, memo_of, next_link, seal
from ledger.greetings import Greetings, encrypt
from ledger.hot_store import Decided
from ledger.submission import ReplyTo, Submission


def decided(*changes: tuple[int, int, int]) -> Decided:
    """Changes as (account, seq before, seq now); the links are the seqs times ten."""
    return Decided(1, [], [[account, old, old * 10, new, new * 10, 0, 0, 0, 0, b""] for account, old, new in changes])


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ([], 0),
        ([decided()], 1),
        ([decided((1, 0, 2)), decided((1, 2, 3)), decided((1, 3, 9))], 3),
        ([decided((1, 0, 2), (2, 0, 1)), decided(), decided((2, 1, 2))], 3),
        ([decided((1, 0, 2)), decided((1, 1, 2))], 1),
        ([decided((1, 0, 2)), decided((2, 5, 6)), decided((1, 5, 6)), decided((1, 6, 7))], 2),
        ([decided((1, 4, 5)), decided((1, 4, 5))], 1),
    ],
)
def test_only_batches_that_continue_each_other_are_committed_together(parts: list[Decided], count: int) -> None:
    assert continuous(parts) == count


def test_the_same_seq_with_another_link_does_not_continue() -> None:
    other = Decided(2, [], [[1, 2, 21, 3, 30, 0, 0, 0, 0, b""]])
    assert continuous([decided((1, 0, 2)), other]) == 1


def test_a_seal_depends_on_everything_that_it_covers() -> None:
    base = (7, 8, 9, 1, 2, "EUR", "R", b"f", b"a")
    others = [(*base[:i], None, *base[i + 1 :]) for i in range(9)]
    seals = {seal(b"k" * 32, each) for each in (base, *others)}
    assert len(seals) == 10
    assert seal(b"j" * 32, base) not in seals


def test_a_link_depends_on_every_field_and_on_the_link_before() -> None:
    entry = [1, 17, b"i" * 16, 3, -5, 0, 0, 5, 0, 0, 5, 0, 0, 100, -1, False, [0, 0, -5, 0], 7, 7, 0, [], b"memo"]
    links = {next_link(0, entry), next_link(1, entry)}
    for position in range(21):
        links.add(next_link(0, [*entry[:position], b"other", *entry[position + 1 :]]))
    assert len(links) == 23
    assert next_link(0, [*entry[:21], b"another memo"]) == next_link(0, entry)


def test_a_memo_names_what_the_request_named() -> None:
    submission = Submission(
        17, b"i" * 16, b"t" * 16, 1, 2, 3, b"\xff" * 8, (), 0.0, cast("ReplyTo", None), currency="EUR",
        reference="Bön №5", limited_day=20000, new_token_kind=1, new_token_masked="…15",
    )  # fmt: skip
    memo = Memo(b"\xff" * 8, 3, "EUR", "Bön №5", 20000, 1, "…15")
    assert memo_of(submission) == memo.packed()
    assert Memo(*msgpack.unpackb(memo.packed())) == memo


class Names:
    """Stands for the reader."""

    def __init__(self, names: dict[int, bytes]) -> None:
        self.names = names
        self.asked = 0

    async def greetings(self, accounts: list[int]) -> dict[int, bytes]:
        self.asked += 1
        return {account: self.names[account] for account in accounts if account in self.names}


async def test_a_name_is_read_by_its_key_for_its_account_only() -> None:
    key, other = b"k" * 32, b"o" * 32
    names = {1: encrypt(key, 1, "Ánná"), 2: encrypt(key, 1, "Ánná"), 3: encrypt(other, 3, "Bob"), 4: b"short"}
    greetings = Greetings(Names(names), key, SystemClock(), names_max=10, age_s=60)  # type: ignore[arg-type]
    assert await greetings.names([1, 2, 3, 4, 5]) == {1: "Ánná", 2: None, 3: None, 4: None, 5: None}
    assert encrypt(key, 1, "Ánná") != names[1]


async def test_a_name_is_remembered_for_its_time_and_no_longer() -> None:
    reader = Names({1: encrypt(b"k" * 32, 1, "Anna")})
    remembering = Greetings(reader, b"k" * 32, SystemClock(), names_max=10, age_s=60)  # type: ignore[arg-type]
    for _ in range(3):
        await remembering.names([1, 1, 2])
    assert reader.asked == 1
    forgetful = Greetings(reader, b"k" * 32, SystemClock(), names_max=10, age_s=0)  # type: ignore[arg-type]
    for _ in range(3):
        await forgetful.names([1])
    assert reader.asked == 4
