"""An account to try decisions on: it keeps the entries as a journal would, and answers for the context from them."""

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

from ledger.decision import Decider
from ledger.operations import Decision, Outcome
from ledger.operations import Operation as Op
from ledger.states import State, first_state

CARD = b"A" * 16
DAY_MS = 86_400_000
TODAY = 20_000
NOON = TODAY * DAY_MS + DAY_MS // 2
DECIDER = Decider()

REQUEST: dict[str, Any] = {
    "op": 0,
    "id": b"",
    "token": CARD,
    "terminal": 11,
    "partner": 1,
    "now_ms": NOON,
    "today": TODAY,
    "permitted": True,
    "currency_ok": True,
    "time_ok": True,
    "points": 0,
    "amount": 0,
    "eligible": -1,
    "partial": False,
    "target": False,
    "hold_ms": 0,
    "terminal_room": -1,
    "active_day": TODAY,
    "expiry_day": TODAY + 365,
    "new_token": False,
    "new_token_state": 0,
    "context": False,
    "memo": b"memo",
    "sale_ms": NOON,
}
# One point earned per unit of money, and no limit on spending.
TERMS: dict[str, int] = {
    "earn_rate_bp": 10_000,
    "redeem_min": 0,
    "redeem_max": 0,
    "share_bp": 10_000,
    "day_points_max": 0,
    "day_count_max": 0,
    "hold_ms_default": 600_000,
    "hold_ms_max": 10 * DAY_MS,
    "holds_max": 5,
}


class Result(NamedTuple):
    status: int
    outcome: int
    points: int
    earned: int
    balance: list[int]
    detail: int
    entries: list[list[Any]]
    account: int
    doubtful: int

    @property
    def available(self) -> int:
        return self.balance[0]


class Account:
    """Keyword arguments of `decide` replace the fields of REQUEST; time is kept in `now_ms` and `today`."""

    def __init__(self, **terms: int) -> None:
        self.state = first_state(7, [(CARD, 1)])
        self.terms = TERMS | terms
        self.entries: list[list[Any]] = []
        self.partners: dict[int, int] = {}
        self.now_ms, self.today = NOON, TODAY
        self.ids = 0

    def new_id(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(16, "big")

    def days_pass(self, days: int) -> None:
        self.now_ms += days * DAY_MS
        self.today += days

    def decide(self, op: Op, **fields: Any) -> Result:
        now = {"now_ms": self.now_ms, "today": self.today}
        request = REQUEST | now | {"op": int(op), "id": self.new_id()} | fields
        result, state = DECIDER.decide(self.state, list(request.values()), list(self.terms.values()))
        if result[0] == Decision.NEED_CONTEXT and "context" not in fields:
            request["context"] = self.context(request["target"])
            result, state = DECIDER.decide(self.state, list(request.values()), list(self.terms.values()))
        self.state = state
        self.entries += result[6]
        self.partners |= {entry[0]: request["partner"] for entry in result[6]}
        return Result(*result)

    def context(self, target: bytes) -> list[Any]:
        tree: list[list[Any]] = []
        known = {target}
        for entry in self.entries:
            if entry[2] == target or entry[15] in known:
                tree.append(entry)
                known |= {entry[2]} - {False}
        if not tree or tree[0][2] != target:
            return [len(self.entries), 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, [], 0, 0, False, False]
        own, fate = tree[0], self.fate(target)
        nets = [sum(entry[position] for entry in tree) for position in (10, 11, 12)]
        expired = quads([entry for entry in tree if entry[1] == Op.EXPIRE_LOTS])
        day = own[17] // DAY_MS
        head = [len(self.entries), 1, own[1], self.partners[own[0]], own[13], own[14], own[10], own[11]]
        return [*head, *nets, quads(tree), fate, own[19], day, expired or False]

    def fate(self, target: Any) -> int:
        upwards = target
        while upwards:
            if any(entry[1] == Op.REVERSE and entry[15] == upwards for entry in self.entries):
                return Op.REVERSE
            upwards = next((entry[15] for entry in self.entries if entry[2] == upwards), False)
        ends = (Op.CAPTURE, Op.RELEASE, Op.EXPIRE_HOLD)
        return next((entry[1] for entry in self.entries if entry[15] == target and entry[1] in ends), 0)

    # What a till does most. Each must be approved; the id of the request is returned.

    def approved(self, op: Op, **fields: Any) -> bytes:
        request_id = self.new_id()
        result = self.decide(op, **({"id": request_id} | fields))
        assert (result.status, result.outcome) == (Decision.DECIDED, Outcome.APPROVED)
        return request_id

    def earn(self, points: int, days: int = 365, **fields: Any) -> bytes:
        """Points that expire after so many days, 0 = never."""
        lot = {"active_day": self.today, "expiry_day": days and self.today + days}
        return self.approved(Op.EARN, amount=points, **(lot | fields))

    def redeem(self, points: int, **fields: Any) -> bytes:
        return self.approved(Op.REDEEM, points=points, **fields)

    def hold(self, points: int, **fields: Any) -> bytes:
        return self.approved(Op.HOLD, points=points, **fields)

    @property
    def available(self) -> int:
        return self.decide(Op.BALANCE).available

    @property
    def now(self) -> State:
        return State.unpacked(self.state)

    def change(self, **fields: Any) -> None:
        """What no request does: an operator's doing, or cards that it had before."""
        self.state = replace(self.now, **fields).packed()

    @property
    def owed(self) -> int:
        return self.now.owed

    @property
    def lots(self) -> list[list[int]]:
        """As {days from TODAY until expiry, free, held}, without the day on which they became spendable."""
        return [[lot[1] and lot[1] - TODAY, lot[2], lot[3]] for lot in self.now.lots]


def quads(entries: list[list[Any]]) -> list[int]:
    sums: dict[tuple[int, int], Counter[str]] = {}
    for entry in entries:
        moves = entry[16]
        for i in range(0, len(moves), 4):
            sum_ = sums.setdefault((moves[i], moves[i + 1]), Counter())
            sum_["free"] += moves[i + 2]
            sum_["held"] += moves[i + 3]
    return [number for lot, sum_ in sums.items() for number in (*lot, sum_["free"], sum_["held"])]
