"""What operators do, added to the account model; merged accounts are one in what the journal answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger.operations import Operation as Op
from ledger.operations import Outcome as Out
from tests.property.account_draft import Draft
from tests.property.account_journal import MAX, Ask, Id, Lot, Row, flat
from tests.property.account_model import CARD_DECLINE, RING, AccountModel

STATUS_BY = {Op.BLOCK_ACCOUNT: 1, Op.UNBLOCK_ACCOUNT: 0, Op.MERGE_OUT: 2}
MERGES: set[int] = {Op.MERGE_OUT, Op.MERGE_IN}
#: What a card may ask for that led to the account once: about what was asked then.
BY_FORMER_CARDS: set[int] = {Op.CAPTURE, Op.RELEASE, Op.REFUND, Op.REVERSE}
NOT_WHEN_CLOSED: set[int] = {Op.ADJUST, Op.LINK, Op.BLOCK_ACCOUNT, Op.UNBLOCK_ACCOUNT}


@dataclass
class Given:
    """What an account gave up, and by now whether another one has taken it in."""

    row: Row
    taken: bool = False


@dataclass
class Known:
    """What every account of one person can learn of the others."""

    given: dict[Id, Given] = field(default_factory=dict)


class OperatorsModel(AccountModel):
    """An account that operators act on; `moved_on` are cards of it that lead elsewhere by now."""

    def __init__(self, cards: dict[Any, int], account: int, known: Known) -> None:
        super().__init__(cards, account)
        self.known = known
        self.moved_on: list[Id] = []

    @property
    def status(self) -> int:  # type: ignore[override]
        """What the last entry that says so says."""
        return next((STATUS_BY[Op(row.op)] for row in reversed(self.rows) if row.op in STATUS_BY), 0)

    def forgot(self) -> int:
        return int(sum(bool(row.id) for row in self.rows) > RING or any(row.op == Op.MERGE_IN for row in self.rows))

    def needs_context(self, ask: Ask) -> bool:
        return (ask.op in MERGES and ask.permitted) or super().needs_context(ask)

    def context_for(self, ask: Ask) -> list[Any]:
        if ask.op == Op.MERGE_OUT:
            return [len(self.rows), *[0] * 15, list(self.moved_on)]
        if ask.op != Op.MERGE_IN:
            return self.context(ask.target)
        given = self.known.given.get(ask.target)
        if given is None:
            return [*self.context(ask.target), []]
        row, seq = given.row, len(self.rows)
        moves: Mapping[Lot, tuple[int, int]] = {} if given.taken else row.moves
        fate = int(Op.MERGE_IN) if given.taken else 0
        return [seq, 2, int(row.op), 0, 0, -1, 0, row.earned, 0, 0, 0, flat(dict(moves)), fate, 0, 0, False,
                list(row.tokens)]  # fmt: skip

    def gate_reasons(self, ask: Ask) -> list[Out]:
        reasons = [] if ask.permitted else [Out.NOT_PERMITTED]
        if (ask.op in NOT_WHEN_CLOSED and self.status == 2) or (ask.op in MERGES and self.status):
            reasons.append(Out.ACCOUNT_BLOCKED)
        if ask.op in NOT_WHEN_CLOSED | MERGES | {Op.UNLINK}:
            return reasons
        if not ask.token:
            reasons += [Out.UNKNOWN_CARD] if self.status == 2 else []
            reasons += [] if ask.currency_ok else [Out.WRONG_CURRENCY]
            return reasons + ([] if ask.time_ok else [Out.BAD_SALE_TIME])
        reasons = super().gate_reasons(ask)
        if ask.op == Op.UNBLOCK and ask.token in self.cards() and self.status:
            reasons.append(Out.ACCOUNT_BLOCKED)
        return reasons

    def hold_reasons(self, draft: Draft) -> list[Out]:
        reasons = super().hold_reasons(draft)
        return [reason for reason in reasons if draft.ask.partner or reason != Out.NOT_PERMITTED]

    def on_unblock(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        status = self.cards().get(ask.token, 2)
        draft.append(tokens=(ask.token, 1))
        return {2: [], 1: [Out.ALREADY_ACTIVE]}.get(status) if status in (1, 2) else [CARD_DECLINE[status]]  # type: ignore[return-value]

    def on_link(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        draft.append(tokens=(ask.new_token, 1))
        # One that was issued here and is not in use has moved on, and was taken from whoever got it.
        return [Out.CARD_IN_USE] if ask.new_token_state == 2 or self.cards().get(ask.new_token) else []

    def on_unlink(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        draft.append(tokens=(ask.target, 4))
        return [Out.UNKNOWN_CARD] if ask.new_token_state == 2 or ask.target not in self.cards() else []

    def on_block_account(self, draft: Draft) -> list[Out]:
        draft.append()
        return []

    def on_unblock_account(self, draft: Draft) -> list[Out]:
        draft.append()
        return []

    def on_merge_out(self, draft: Draft) -> list[Out]:
        if draft.holds():
            return [Out.TOO_MANY_HOLDS]
        points, owed = draft.total("points"), draft.total("owed")
        moves = {lot: (-free, 0) for lot, (free, _) in draft.lots().items()}
        leaving = {token: status for token, status in self.cards().items() if token not in self.moved_on}
        tokens = tuple(part for card in leaving.items() for part in card)
        draft.append(points=-points, owed=-owed, earned=owed - points, moves=moves, tokens=tokens)
        draft.verdict.earned = owed - points
        return []

    def on_merge_in(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        given = self.known.given.get(ask.target)
        if given is None:
            return [Out.ORIGINAL_UNSUITABLE if draft.find(ask.target) else Out.ORIGINAL_UNKNOWN]
        if given.taken:
            return [Out.ORIGINAL_UNSUITABLE]
        row = given.row
        if draft.total("points") - row.points > MAX or draft.total("owed") - row.owed > MAX:
            return [Out.ACCOUNT_LIMIT]
        moves = {lot: (-free, 0) for lot, (free, _) in row.moves.items()}
        draft.append(target=ask.target, points=-row.points, owed=-row.owed, earned=-row.earned, moves=moves,
                     tokens=row.tokens)  # fmt: skip
        draft.verdict.earned = -row.earned
        return []
