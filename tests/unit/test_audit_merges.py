"""`verify` recomputes from the journal what operators do: forged journals, linked and sealed as if all was well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger import audit
from ledger.audit import AccountAudit, BadRow
from ledger.entries import next_link, seal
from ledger.hot_store import pack, unpack
from ledger.merge_audit import MergeAudit
from ledger.operations import Operation as Op
from ledger.states import State, first_state
from tests.unit.decision_account import DAY_MS, DECIDER, REQUEST, TERMS, TODAY

KEY = b"s" * 32
A, B, C, D = (letter * 16 for letter in (b"A", b"B", b"C", b"D"))
COLUMNS = (
    "seq", "op", "request_id", "terminal_id", "points", "held", "owed", "balance_after", "held_after", "owed_after",
    "spent", "earned", "refunded", "amount", "eligible", "target", "moves", "at_ms", "sale_ms", "rate_bp", "cards",
)  # fmt: skip


class Book:
    """An account as PostgreSQL has it, made by real decisions; whatever is forged is linked and sealed afterwards."""

    def __init__(self, account: int, cards: dict[bytes, int]) -> None:
        self.account = account
        self.state = first_state(account, cards.items())
        self.cards = dict(cards)
        self.rows: list[dict[str, Any]] = []
        self.forged: dict[str, Any] = {}

    def ask(self, op: Op, **fields: Any) -> bytes:
        request_id = bytes((self.account, len(self.rows) + 1)) * 8
        operator = {"op": int(op), "id": request_id, "token": False, "partner": 0, "expiry_day": 0}
        result, self.state = DECIDER.decide(
            self.state, list((REQUEST | operator | fields).values()), list(TERMS.values())
        )
        assert result[:2] == [0, 0]
        for entry in result[6]:
            row = dict(zip(COLUMNS, entry, strict=False))
            row |= {"request_id": entry[2] or None, "target": entry[15] or None, "moves": pack(entry[16])}
            row["cards"] = pack(entry[20]) if entry[20] else None
            self.rows.append(row)
            self.cards |= dict(zip(entry[20][::2], entry[20][1::2], strict=True))
        return request_id

    def give_up(self) -> bytes:
        return self.ask(Op.MERGE_OUT, context=[len(self.rows), *[0] * 15, []])

    def take_in(self, other: Book) -> None:
        given = other.rows[-1]
        known = [
            len(self.rows),
            2,
            Op.MERGE_OUT,
            0,
            0,
            0,
            0,
            given["earned"],
            0,
            0,
            0,
            unpack(given["moves"]),
            0,
            0,
            0,
            0,
        ]
        self.ask(Op.MERGE_IN, target=given["request_id"], context=[*known, unpack(given["cards"])])
        other.cards = {}

    @property
    def now(self) -> State:
        return State.unpacked(self.state)

    def forge_state(self, **fields: Any) -> None:
        self.state = replace(self.now, **fields).packed()

    def audited(self) -> AccountAudit:
        """Let the audit read the journal as if it were what was committed."""
        read, link = AccountAudit(self.account, KEY), 0
        for row in self.rows:
            plain = {"network_id": 0, "until_ms": 0, "currency": "", "reference": "", "fingerprint": b"", "answer": b""}
            link = next_link(link, audit._linked(row, unpack(row["moves"])))
            sealed = seal(KEY, (self.account, row["seq"], link, *plain.values()))
            read.apply(plain | row | {"link": link, "seal": sealed})
        state = self.now
        days = [lot[1] for lot in state.lots if lot[1]]
        read.check_head({
            "seq": state.seq, "link": link, "balance": state.balance, "held": state.held, "owed": state.owed,
            "state": self.state, "due_ms": (min(days) + 1) * DAY_MS if days else None,
            "cards": [token + bytes((status,)) for token, status in self.cards.items()],
        })  # fmt: skip
        return read


def merging(*books: Book) -> int:
    merges = MergeAudit()
    for book in books:
        merges.add(book.audited())
    return merges.finish()


def source() -> Book:
    """An account with two lots, one of them pending, and two cards, of which the journal has seen one."""
    book = Book(1, {A: 1, B: 1})
    book.ask(Op.ADJUST, points=100)
    book.ask(Op.ADJUST, points=50, active_day=TODAY + 1, expiry_day=TODAY + 9)
    book.ask(Op.BLOCK, token=B)
    return book


def indebted() -> Book:
    book = Book(1, {A: 1, B: 1})
    book.ask(Op.BLOCK, token=B)
    book.ask(Op.ADJUST, points=-30)
    return book


def target() -> Book:
    book = Book(2, {C: 1})
    book.ask(Op.ADJUST, points=7)
    return book


def merged(make: Callable[[], Book] = source) -> tuple[Book, Book]:
    given, taken = make(), target()
    given.give_up()
    taken.take_in(given)
    return given, taken


def changed(packed: bytes, at: int, value: Any) -> bytes:
    flat = unpack(packed)
    flat[at] = value
    return pack(flat)


@pytest.mark.parametrize("make", [source, indebted])
def test_a_merge_is_in_order_and_points_under_way_are_counted(make: Callable[[], Book]) -> None:
    given, taken = make(), target()
    points = given.now.balance
    given.give_up()
    assert merging(given, taken) == merging(taken, given) == points
    taken.take_in(given)
    assert merging(given, taken) == merging(taken, given) == 0
    assert taken.now.tokens == {C: 1, A: 1, B: 2}


def test_an_account_that_was_merged_is_merged_again() -> None:
    given, taken = merged()
    last = Book(3, {D: 1})
    taken.give_up()
    assert merging(given, taken, last) == 157
    last.take_in(taken)
    assert merging(last, given, taken) == 0


@pytest.mark.parametrize("status", [1, 2])
def test_a_status_that_no_entry_gave_is_found(status: int) -> None:
    book = source()
    book.forge_state(status=status)
    with pytest.raises(BadRow, match="status"):
        book.audited()


def test_a_block_that_is_not_in_the_state_is_found() -> None:
    book = source()
    book.ask(Op.BLOCK_ACCOUNT)
    book.audited()
    book.forge_state(status=0)
    with pytest.raises(BadRow, match="status"):
        book.audited()
    book.forge_state(status=1)
    book.ask(Op.UNBLOCK_ACCOUNT)
    book.audited()


def test_a_card_that_the_journal_names_with_another_status_in_the_state_is_found() -> None:
    book = source()
    book.forge_state(tokens={A: 1, B: 1})
    book.cards[B] = 1
    with pytest.raises(BadRow, match="cards that the journal names"):
        book.audited()


@pytest.mark.parametrize("fields", [{"status": 0}, {"tokens": {A: 1}}])
def test_a_closed_account_that_looks_open_is_found(fields: dict[str, Any]) -> None:
    given, _ = merged()
    given.forge_state(**fields)
    with pytest.raises(BadRow):
        given.audited()


def test_an_entry_behind_the_closing_one_is_found() -> None:
    given, _ = merged()
    given.forge_state(status=0)
    given.ask(Op.ADJUST, points=5)
    with pytest.raises(BadRow, match="closed"):
        given.audited()


def test_a_closed_account_that_keeps_points_is_found() -> None:
    given, _ = merged()
    row = given.rows[-1]
    row |= {"moves": changed(row["moves"], 2, -49), "points": -149, "earned": -149, "balance_after": 1}
    with pytest.raises(BadRow, match="balance of the closed account"):
        given.audited()


def test_a_closed_account_that_keeps_owing_is_found() -> None:
    given, _ = merged(indebted)
    given.rows[-1] |= {"owed": -29, "earned": 29, "owed_after": 1}
    with pytest.raises(BadRow, match="owed of the closed account"):
        given.audited()


@pytest.mark.parametrize("cards", [[A, 1, B, 1], [A, 1]])
def test_a_card_given_up_as_it_was_not_is_found(cards: list[Any]) -> None:
    given, _ = merged()
    given.rows[-1]["cards"] = pack(cards)
    with pytest.raises(BadRow, match="given up"):
        given.audited()


def test_cards_that_cannot_be_read_are_found() -> None:
    given, _ = merged()
    given.rows[-1]["cards"] = pack([A])
    with pytest.raises(BadRow, match="cannot be read"):
        given.audited()


def more_points(book: Book) -> None:
    row = book.rows[-1]
    row |= {"moves": changed(row["moves"], 2, 51), "points": 151, "earned": 151, "balance_after": 158}
    lots = [(*lot[:2], 51, 0) if lot[2] == 50 else lot for lot in book.now.lots]
    book.forge_state(balance=158, lots=lots)


def another_day(book: Book) -> None:
    row = book.rows[-1]
    row["moves"] = changed(row["moves"], 1, TODAY + 10)
    book.forge_state(lots=[(lot[0], TODAY + 10, *lot[2:]) if lot[2] == 50 else lot for lot in book.now.lots])


def a_debt(book: Book) -> None:
    book.rows[-1] |= {"owed": 3, "earned": 147, "owed_after": 3}
    book.forge_state(owed=3)


def another_card_status(book: Book) -> None:
    book.rows[-1]["cards"] = pack([A, 1, B, 1])
    book.forge_state(tokens={C: 1, A: 1, B: 1})
    book.cards[B] = 1


def a_card_less(book: Book) -> None:
    book.rows[-1]["cards"] = pack([A, 1])
    book.forge_state(tokens={C: 1, A: 1})
    del book.cards[B]


@pytest.mark.parametrize("forge", [more_points, another_day, a_debt, another_card_status, a_card_less])
def test_something_else_taken_in_than_was_given_up_is_found(forge: Callable[[Book], None]) -> None:
    given, taken = merged()
    forge(taken)
    taken.audited()
    with pytest.raises(BadRow, match="something else") as bad:
        merging(given, taken)
    assert (bad.value.account, bad.value.seq) == (2, 2)


def test_what_was_given_up_once_and_taken_in_twice_is_found() -> None:
    given, taken = merged()
    other = Book(3, {D: 1})
    other.take_in(given)
    for books in ((given, taken, other), (other, given, taken)):
        with pytest.raises(BadRow, match="has taken in"):
            merging(*books)


def test_what_nobody_gave_up_is_found_where_it_was_taken_in() -> None:
    _, taken = merged()
    with pytest.raises(BadRow, match="no account has given up"):
        merging(taken)


def test_an_account_that_forgot_that_it_has_a_past_is_found() -> None:
    _, taken = merged()
    taken.forge_state(forgot=0)
    with pytest.raises(BadRow, match="forgot"):
        taken.audited()


def test_cards_in_the_wrong_place_are_found() -> None:
    given, taken = merged()
    given.cards = {A: 1, B: 2}
    with pytest.raises(BadRow, match="cards lead to"):
        merging(given, taken)
    given.cards = {A: 1}
    with pytest.raises(BadRow, match="cards of the closed account"):
        given.audited()
    given.cards = {}
    with pytest.raises(BadRow, match="have gone"):
        merging(given)


def without_a_card() -> Book:
    book = source()
    book.ask(Op.UNLINK, target=B)
    del book.cards[B]
    return book


def test_a_card_that_was_taken_away_and_came_back_is_in_order() -> None:
    book = without_a_card()
    book.audited()
    book.ask(Op.LINK, new_token=B)
    book.ask(Op.ADJUST, points=3)
    assert book.cards == {A: 1, B: 1}
    book.audited()
    book.ask(Op.UNLINK, target=A)
    del book.cards[A]
    taken = target()
    book.give_up()
    taken.take_in(book)
    assert taken.cards == {C: 1, B: 1}
    assert merging(book, taken) == 0


def row_stays(book: Book) -> None:
    book.cards[B] = 2


def state_keeps_it(book: Book) -> None:
    book.forge_state(tokens={A: 1, B: 2})


def both_keep_it(book: Book) -> None:
    row_stays(book)
    state_keeps_it(book)


def entry_names_another(book: Book) -> None:
    book.rows[-1]["cards"] = pack([A, 4])


def entry_names_none(book: Book) -> None:
    book.rows[-1]["cards"] = None


@pytest.mark.parametrize("forge", [row_stays, state_keeps_it, both_keep_it, entry_names_another, entry_names_none])
def test_a_card_that_was_not_quite_taken_away_is_found(forge: Callable[[Book], None]) -> None:
    book = without_a_card()
    forge(book)
    with pytest.raises(BadRow, match="card"):
        book.audited()


def test_a_card_given_up_after_it_was_taken_away_is_found() -> None:
    book = without_a_card()
    book.give_up()
    book.rows[-1]["cards"] = pack([A, 1, B, 2])
    with pytest.raises(BadRow, match="given up"):
        book.audited()


def test_a_status_that_stands_in_entries_alone_is_no_cards_status() -> None:
    book = source()
    book.forge_state(tokens={A: 1, B: 4})
    book.cards[B] = 4
    with pytest.raises(BadRow):
        book.audited()
