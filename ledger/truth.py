"""What only PostgreSQL can tell a decision: cold accounts, the family of an earlier request, where cards lead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from ledger.business_day import BusinessDay
from ledger.clock import Clock
from ledger.hot_store import unpack
from ledger.journal.reader import CardRow, Head, Reader
from ledger.operations import Operation, Outcome
from ledger.rendering import Renderer
from ledger.states import State, is_closed
from ledger.submission import Submission

#: Operations that are always decided on what PostgreSQL says of an earlier request or of other cards.
NEED_TRUTH = frozenset({
    Operation.REFUND, Operation.REVERSE, Operation.STATUS, Operation.REPLACE, Operation.LINK, Operation.UNLINK,
    Operation.MERGE_OUT, Operation.MERGE_IN,
})  # fmt: skip

_NAMES_ORIGINAL = frozenset({
    Operation.REFUND, Operation.REVERSE, Operation.STATUS, Operation.CAPTURE, Operation.RELEASE, Operation.MERGE_IN
})  # fmt: skip
_NOTHING_KNOWN: tuple[Any, ...] = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [], 0, 0, False, False)

# Where an original is found (ledger/lua/context.lua).
_HERE, _ELSEWHERE = 1, 2
_ISSUED = 0
# What is said of a card that is to come (ledger/lua/request.lua).
_FREE, _MOVABLE, _TAKEN = range(3)

Family = Sequence[Any]


class Standing(IntEnum):
    """What became of a request (SPEC.md, STATUS)."""

    UNKNOWN = 0
    STANDS = 1
    REVERSED = 2
    HELD = 3
    CAPTURED = 4
    RELEASED = 5
    EXPIRED = 6
    REFUNDED = 7


_ENDS = {
    int(Operation.CAPTURE): Standing.CAPTURED,
    int(Operation.RELEASE): Standing.RELEASED,
    int(Operation.EXPIRE_HOLD): Standing.EXPIRED,
}


@dataclass(slots=True)
class Truth:
    """An account as PostgreSQL has it, with the submissions that waited for it and what each needs beside the state.

    `put_off` waits on: these ask what became of a submission that is not decided yet.
    """

    account: int
    head: Head
    submissions: list[Submission]
    put_off: list[Submission] = field(default_factory=list)
    contexts: dict[bytes, list[Any]] = field(default_factory=dict)
    new_card_states: dict[bytes, int] = field(default_factory=dict)


class TruthReader:
    """Reads the truth for accounts of which nothing is under way; answers STATUS itself, since that changes nothing."""

    def __init__(
        self,
        reader: Reader,
        renderer: Renderer,
        partner_of: Callable[[int], int],
        clock: Clock,
        days: Callable[[], BusinessDay],
        resolve_afresh: Callable[[Submission], None],
    ) -> None:
        """Take what is asked; `resolve_afresh` gets a STATUS that came to an account which is closed."""
        self._reader = reader
        self._renderer = renderer
        self._partner_of = partner_of
        self._clock = clock
        self._days = days
        self._resolve_afresh = resolve_afresh

    async def read(self, waiting: dict[int, list[Submission]]) -> list[Truth]:
        """Return the truth for the waiting submissions of each account. Raises JournalDown."""
        heads = await self._reader.heads(list(waiting))
        submissions = [s for account in heads for s in waiting[account]]
        originals = [s.target for s in submissions if s.target is not None and s.op in _NAMES_ORIGINAL]
        families = await self._reader.families(originals) if originals else {}
        merged = await self._merged(submissions, families)
        tokens = [s.new_token for s in submissions if s.new_token is not None]
        leaving = [token for s in submissions if s.op == Operation.MERGE_OUT for token in _movable(heads[s.account])]
        unlinked = [s.target for s in submissions if s.op == Operation.UNLINK and s.target is not None]
        wanted = tokens + leaving + unlinked
        cards = await self._reader.cards(wanted) if wanted else {}
        truths = []
        for account, head in heads.items():
            truth = Truth(account, head, [])
            for submission in waiting[account]:
                self._add(truth, submission, families, merged, cards)
            truths.append(truth)
        return truths

    async def _merged(self, submissions: Sequence[Submission], families: Mapping[bytes, Family]) -> Mapping[int, int]:
        """Return what has become of the accounts, of the submissions and of their originals, where these differ."""
        originals = [(s.account, families.get(s.target or b"", ())) for s in submissions]
        pairs = [(account, family[0]["account_id"]) for account, family in originals if family]
        differing = {account for pair in pairs if pair[0] != pair[1] for account in pair}
        return await self._reader.merged_into(list(differing)) if differing else {}

    def _add(
        self,
        truth: Truth,
        submission: Submission,
        families: Mapping[bytes, Family],
        merged: Mapping[int, int],
        cards: Mapping[bytes, CardRow],
    ) -> None:
        family = families.get(submission.target or b"", ())
        found = _found(truth.account, family, merged)
        if submission.op == Operation.STATUS:
            if is_closed(truth.head.state) and not submission.resolved_afresh:
                # The card leads to the account that this one has become part of, and what it asks about may be there.
                self._resolve_afresh(submission)
            elif any(other.request_id == submission.target for other in truth.submissions):
                truth.put_off.append(submission)
            else:
                body = self._status(found, submission, family)
                submission.reply_to.answer(submission.request_id, body, replayed=False)
            return
        if submission.op == Operation.MERGE_OUT:
            truth.contexts[submission.request_id] = [truth.head.seq, *_NOTHING_KNOWN, _moved_on(truth, cards)]
        elif submission.op in _NAMES_ORIGINAL and submission.target is not None:
            context = self._context(truth.head.seq, found, family)
            if submission.op == Operation.MERGE_IN:
                context.append(unpack(family[0]["cards"]) if family and family[0]["cards"] else [])
            truth.contexts[submission.request_id] = context
        if submission.op == Operation.UNLINK:
            card = cards.get(submission.target or b"")
            here = card is not None and card.account == truth.account
            truth.new_card_states[submission.request_id] = _FREE if here else _TAKEN
        elif submission.new_token is not None:
            truth.new_card_states[submission.request_id] = _new_card_state(
                cards.get(submission.new_token), truth.account
            )
        truth.submissions.append(submission)

    def _context(self, as_of_seq: int, found: int, family: Family) -> list[Any]:
        """Return the context of ledger/lua/context.lua for an original and everything that targets it."""
        if not family:
            return [as_of_seq, *_NOTHING_KNOWN]
        original = family[0]
        return [
            as_of_seq, found, original["op"], self._partner_of(original["network_id"]), original["amount"],
            original["eligible"], original["spent"], original["earned"], sum(e["spent"] for e in family),
            sum(e["earned"] for e in family), sum(e["refunded"] for e in family), _net_moves(family), _fate(family),
            original["rate_bp"], self._days().day(original["counted_ms"]),
            _net_moves([e for e in family if e["op"] == Operation.EXPIRE_LOTS]) or False,
        ]  # fmt: skip

    def _status(self, found: int, submission: Submission, family: Family) -> bytes:
        network = submission.network_id
        if not submission.permitted:
            return self._decline(network, Outcome.NOT_PERMITTED)
        if not family:
            return self._renderer.status(Standing.UNKNOWN, None)
        original = family[0]
        if self._partner_of(original["network_id"]) != submission.partner_id:
            return self._decline(network, Outcome.NOT_PERMITTED)
        if found != _HERE:
            return self._decline(network, Outcome.ORIGINAL_OTHER_CARD)
        return self._renderer.status(standing(family, self._clock.now_ms()), original["answer"])

    def _decline(self, network: int, outcome: Outcome) -> bytes:
        return self._renderer.decided(Operation.STATUS, network, outcome, 0, 0, None, 0, None)


def standing(family: Family, now_ms: int) -> Standing:
    """Return what became of a request, from the rows of ledger/sql/family.sql for it."""
    original, fate = family[0], _fate(family)
    if fate == Operation.REVERSE or original["op"] == Operation.TOMBSTONE:
        return Standing.REVERSED
    if original["op"] == Operation.HOLD:
        open_hold = Standing.HELD if original["until_ms"] >= now_ms else Standing.EXPIRED
        return _ENDS.get(fate, open_hold)
    if sum(e["refunded"] for e in family[1:]) > 0:
        return Standing.REFUNDED
    return Standing.STANDS


def _found(account: int, family: Family, merged: Mapping[int, int]) -> int:
    """Return where an original is: nowhere, on this account or one of the same person, on another one."""
    if not family:
        return 0
    original = family[0]["account_id"]
    return _HERE if merged.get(original, original) == merged.get(account, account) else _ELSEWHERE


def _fate(family: Family) -> int:
    """Return the operation that ended the original: a reversal above all, else what used it up, else 0."""
    original = family[0]
    if original["above_reversed"]:
        return int(Operation.REVERSE)
    ends = {e["op"] for e in family[1:] if e["target"] == original["request_id"]}
    for op in (Operation.REVERSE, Operation.CAPTURE, Operation.RELEASE, Operation.EXPIRE_HOLD, Operation.MERGE_IN):
        if op in ends:
            return int(op)
    return 0


def _net_moves(family: Family) -> list[int]:
    """Return the moves of a family summed by lot, as flat quads (from, until, free, held)."""
    sums: dict[tuple[int, int], list[int]] = {}
    for entry in family:
        moves = unpack(entry["moves"])
        for i in range(0, len(moves), 4):
            lot = sums.setdefault((moves[i], moves[i + 1]), [0, 0])
            lot[0] += moves[i + 2]
            lot[1] += moves[i + 3]
    return [number for (start, until), (free, held) in sums.items() for number in (start, until, free, held)]


def _new_card_state(card: CardRow | None, account: int) -> int:
    if card is None:
        return _FREE
    return _MOVABLE if card.status == _ISSUED and card.pristine and card.account != account else _TAKEN


def _movable(head: Head) -> list[bytes]:
    """Return the cards of an account that may have moved on to replace another one: they were never used."""
    try:
        tokens = State.unpacked(head.state).tokens
    except ValueError:
        # A state that is none: the decision fails on it, and on nothing else.
        return []
    return [token for token, status in tokens.items() if status == _ISSUED]


def _moved_on(truth: Truth, cards: Mapping[bytes, CardRow]) -> list[bytes]:
    movable = _movable(truth.head)
    return [token for token in movable if token in cards and cards[token].account != truth.account]
