"""Recomputes one account from its journal and names the first thing that does not add up. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.entries import next_link, seal
from ledger.hot_store import pack, unpack
from ledger.operations import Operation
from ledger.states import BLOCKED, CARD_GONE, CLOSED, OPEN, RING_MAX, State

Entry = Mapping[str, Any]

_ENDS_HOLD = frozenset({Operation.CAPTURE, Operation.RELEASE, Operation.EXPIRE_HOLD, Operation.REVERSE})
_STATUS_BY = {
    Operation.BLOCK_ACCOUNT: BLOCKED,
    Operation.UNBLOCK_ACCOUNT: OPEN,
    Operation.MERGE_OUT: CLOSED,
}
_MERGES = frozenset({Operation.MERGE_OUT, Operation.MERGE_IN})
_DAY_MS = 86_400_000
_NEVER_DAY = 2**32
_NEVER_MS = _NEVER_DAY * _DAY_MS
_TOTALS = ("seq", "balance", "held", "owed")


class BadRow(Exception):  # noqa: N818 - it is a finding
    """Something in the journal or beside it is not what the journal before it demands."""

    def __init__(self, account: int, seq: int, what: str) -> None:
        super().__init__(f"account {account}, entry {seq}: {what}")
        self.account = account
        self.seq = seq


@dataclass(frozen=True, slots=True)
class Merge:
    """One half of two accounts becoming one: what a MERGE_OUT took out, or what a MERGE_IN put in.

    `lots` are points by first and last day, `cards` statuses by token, `out_id` the request of the MERGE_OUT.
    """

    account: int
    seq: int
    out_id: bytes
    lots: Mapping[tuple[int, int], int]
    owed: int
    cards: Mapping[bytes, int]

    @property
    def points(self) -> int:
        """Return all points, in minor units."""
        return sum(self.lots.values())


class AccountAudit:
    """The running totals of one account, entry by entry; `given` and `taken` are its merges."""

    def __init__(self, account: int, seal_key: bytes) -> None:
        self.account = account
        self.seq = 0
        self.link = 0
        self.balance = 0
        self.held = 0
        self.owed = 0
        self.lots: dict[tuple[int, int], list[int]] = {}
        self.state = State(account)
        self.status = OPEN
        self.given: Merge | None = None
        self.taken: list[Merge] = []
        #: Whether cards still lead here after everything was given up.
        self.cards_left = False
        #: By token; None once the card was taken away.
        self._cards: dict[bytes, int | None] = {}
        self._holds: dict[bytes, list[Any]] = {}
        self._ring: deque[bytes] = deque(maxlen=RING_MAX)
        self._requests = 0
        self._seal_key = seal_key

    def apply(self, entry: Entry) -> None:
        """Take the next entry. Raises BadRow."""
        if entry["seq"] != self.seq + 1:
            raise BadRow(self.account, entry["seq"], f"follows entry {self.seq}: the journal has a gap")
        if self.status == CLOSED:
            raise BadRow(self.account, entry["seq"], "follows the entry that closed the account")
        self.seq = entry["seq"]
        self._check_sums(entry)
        moves = self._moves(entry)
        self._move(entry, moves)
        self._remember(entry, moves)
        self._follow_cards(entry, moves)
        self.status = _STATUS_BY.get(entry["op"], self.status)
        self.link = next_link(self.link, _linked(entry, moves))
        self._expect("link", self.link, entry["link"])
        sealed = (
            self.account,
            self.seq,
            self.link,
            entry["network_id"],
            entry["until_ms"],
            entry["currency"],
            entry["reference"],
            entry["fingerprint"],
            entry["answer"],
        )
        if seal(self._seal_key, sealed) != entry["seal"]:
            raise BadRow(
                self.account, self.seq, "the seal does not fit: the row was altered, or the seal key is another"
            )

    def check_head(self, head: Mapping[str, Any]) -> None:
        """Compare the account's row, its state and its cards with what the journal says. Raises BadRow."""
        for name in ("seq", "link", "balance", "held", "owed"):
            self._expect(f"the account's {name}", getattr(self, name), head[name])
        self.state = self.unpacked(head["state"])
        self._check_state(self.state)
        self._check_due(head["due_ms"])
        cards = {row[:-1]: row[-1] for row in head["cards"]}
        if self.given is not None:
            # Its cards lead here until the other account has taken them in.
            self.cards_left = bool(cards)
            self._expect("the cards of the closed account", self.given.cards if cards else {}, cards)
            return
        # A card that was issued and never used may have moved on to replace a lost one; the account keeps its name.
        kept = {token: status for token, status in self.state.tokens.items() if status or token in cards}
        self._expect("the account's cards", kept, cards)

    def check_copy(self, link: int, state: State) -> None:
        """Compare what Redis holds, as of the same entry, with the account's row. Raises BadRow."""
        self._expect("the state in Redis", self.state, state)
        self._expect("the link in Redis", self.link, link)

    def unpacked(self, packed: bytes) -> State:
        """Return the account's state from its stored form. Raises BadRow."""
        try:
            return State.unpacked(packed)
        except ValueError:
            raise BadRow(self.account, self.seq, "the account's state cannot be read") from None

    def _check_state(self, state: State) -> None:
        self._expect("the state's account", self.account, state.account)
        self._expect("the state's status", self.status, state.status)
        for name in _TOTALS:
            self._expect(f"the state's {name}", getattr(self, name), getattr(state, name))
        lots = {(start, until): [free, held] for start, until, free, held in state.lots}
        self._expect("the state's lots", {lot: points for lot, points in self.lots.items() if points != [0, 0]}, lots)
        self._expect("the state's holds", list(self._holds.values()), [hold[:4] for hold in state.holds])
        self._expect("the requests that the state remembers", list(self._ring), state.ring)
        self._expect("whether the state forgot any", int(self._requests > RING_MAX or bool(self.taken)), state.forgot)
        if self.status == CLOSED:
            self._expect("the cards in the closed account's state", {}, state.tokens)
        known = {token: state.tokens.get(token) for token in self._cards}
        self._expect("the cards that the journal names, in the state", self._cards, known)

    def _check_due(self, due_ms: int | None) -> None:
        """Compare with the first hold and lot to run out; how far a lot's day is from UTC is not known here."""
        hold_ms = min((hold[1] + 1 for hold in self._holds.values()), default=_NEVER_MS)
        lot_day = min((until for (_, until), (free, _) in self.lots.items() if until and free), default=_NEVER_DAY)
        lot_ms = (lot_day + 1) * _DAY_MS
        if not min(hold_ms, lot_ms - _DAY_MS) <= (due_ms or _NEVER_MS) <= min(hold_ms, lot_ms + _DAY_MS):
            expected = min(hold_ms, lot_ms)
            self._expect("the account's due_ms", None if expected == _NEVER_MS else expected, due_ms)

    def _remember(self, entry: Entry, moves: Sequence[int]) -> None:
        request_id = entry["request_id"]
        if request_id is not None:
            self._ring.append(request_id)
            self._requests += 1
        if entry["op"] == Operation.HOLD:
            alloc = [[moves[i], moves[i + 1], moves[i + 3]] for i in range(0, len(moves), 4)]
            self._holds[request_id] = [request_id, entry["until_ms"], entry["amount"], alloc]
        elif entry["op"] in _ENDS_HOLD:
            self._holds.pop(entry["target"], None)

    def _follow_cards(self, entry: Entry, moves: Sequence[int]) -> None:
        if entry["cards"] is None and entry["op"] not in _MERGES:
            return
        flat = _cards(entry["cards"])
        if not isinstance(flat, list) or len(flat) % 2:
            raise BadRow(self.account, self.seq, "the changes of cards cannot be read")
        cards = dict(zip(flat[::2], flat[1::2], strict=True))
        if entry["op"] == Operation.MERGE_OUT:
            self._expect(
                "the cards that are given up",
                {token: status for token, status in self._cards.items() if status is not None},
                {token: status for token, status in cards.items() if token in self._cards},
            )
            for name in _TOTALS[1:]:
                self._expect(f"{name} of the closed account", 0, getattr(self, name))
            self._cards = {}
            self.given = self._merge(entry["request_id"], entry, moves, cards, -1)
            return
        self._cards |= {token: None if status == CARD_GONE else status for token, status in cards.items()}
        if entry["op"] == Operation.MERGE_IN:
            self.taken.append(self._merge(entry["target"], entry, moves, cards, 1))

    def _merge(
        self, out_id: bytes | None, entry: Entry, moves: Sequence[int], cards: Mapping[bytes, int], sign: int
    ) -> Merge:
        lots = {(moves[i], moves[i + 1]): sign * moves[i + 2] for i in range(0, len(moves), 4)}
        return Merge(self.account, self.seq, out_id or b"", lots, sign * entry["owed"], cards)

    def _check_sums(self, entry: Entry) -> None:
        self.balance += entry["points"]
        self.held += entry["held"]
        self.owed += entry["owed"]
        for name, computed in (("balance_after", self.balance), ("held_after", self.held), ("owed_after", self.owed)):
            self._expect(name, computed, entry[name])
            if computed < 0:
                raise BadRow(self.account, self.seq, f"{name} is {computed}")
        if entry["op"] != Operation.EXPIRE_LOTS:
            self._expect("points", entry["earned"] - entry["spent"] + entry["owed"], entry["points"])

    def _moves(self, entry: Entry) -> list[int]:
        moves = _canonical(entry["moves"])
        if not isinstance(moves, list) or len(moves) % 4 or not all(type(number) is int for number in moves):
            raise BadRow(self.account, self.seq, "the moves between lots cannot be read")
        return moves

    def _move(self, entry: Entry, moves: Sequence[int]) -> None:
        free_sum = held_sum = 0
        for i in range(0, len(moves), 4):
            lot = self.lots.setdefault((moves[i], moves[i + 1]), [0, 0])
            lot[0] += moves[i + 2]
            lot[1] += moves[i + 3]
            free_sum += moves[i + 2]
            held_sum += moves[i + 3]
            if min(lot) < 0:
                raise BadRow(self.account, self.seq, f"lot {moves[i]}..{moves[i + 1]} is overdrawn: {lot}")
        self._expect("the points moved between lots", entry["points"], free_sum + held_sum)
        self._expect("the held points moved between lots", entry["held"], held_sum)

    def _expect(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            raise BadRow(self.account, self.seq, f"{what} should be {expected}, is {found}")


def _linked(entry: Entry, moves: list[int]) -> list[Any]:
    """Return the fields that the link covers, in the order of ledger/lua/entry.lua."""
    return [
        entry["seq"], entry["op"], _or_false(entry["request_id"]), entry["terminal_id"], entry["points"], entry["held"],
        entry["owed"], entry["balance_after"], entry["held_after"], entry["owed_after"], entry["spent"],
        entry["earned"], entry["refunded"], entry["amount"], entry["eligible"], _or_false(entry["target"]),
        moves, entry["at_ms"], entry["sale_ms"], entry["rate_bp"], _cards(entry["cards"]),
    ]  # fmt: skip


def _or_false(value: bytes | None) -> bytes | bool:
    return False if value is None else value


def _cards(packed: bytes | None) -> Any:
    """Return the changes of cards; none are stored as null, so anything else that says so was put there."""
    return [] if packed is None else (_canonical(packed) or False)


def _canonical(packed: bytes) -> Any:
    """Return what was packed, or False: the same values in other bytes are not what was journaled."""
    try:
        value = unpack(packed)
        return value if pack(value) == packed else False
    except (ValueError, TypeError):
        return False
