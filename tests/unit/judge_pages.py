"""A small journal and log written by hand, sound until a test spoils it."""

from collections import Counter
from typing import Any

import msgpack

from ledger.operations import Operation as Op
from tests.judge.account_rows import link_behind
from tests.judge.events import ANSWERED, SENT, Event
from tests.judge.judge import judge
from tests.judge.verdict import Verdict

LOT = (0, 0)
NOW_MS = 1_000_000_000
_ZEROS = (
    "points", "held", "owed", "spent", "earned", "refunded", "amount", "terminal_id", "until_ms", "rate_bp", "sale_ms",
)  # fmt: skip


def request_id(name: str) -> bytes:
    return name.encode().ljust(16, b".")


class Pages:
    """One account (7) that card 1 leads to; `enter` writes an entry, `ask` the events of a request."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.clock_ms = NOW_MS
        self.due_ms: int | None = None

    def enter(
        self, op: Op, name: str | None = None, *, target: str | None = None, free: int = 0, **fields: Any
    ) -> None:
        held = fields.get("held", 0)
        entry: dict[str, Any] = dict.fromkeys(_ZEROS, 0)
        entry |= {"account_id": 7, "op": int(op), "eligible": -1, "cards": None, "at_ms": self.clock_ms}
        entry |= {
            "request_id": None if name is None else request_id(name),
            "answer": name and f"answer {name}".encode(),
        }
        entry |= {"target": None if target is None else request_id(target)}
        entry |= {"points": free + held, "moves": [*LOT, free, held] if free or held else [], **fields}
        entry["moves"] = msgpack.packb(entry["moves"])
        self.entries.append(entry)

    def ask(self, op: Op, name: str, *, takes_ms: int = 10, **told: Any) -> Event:
        """Let a register send a copy and hear an answer: by default the approval that the journal has."""
        told.setdefault("outcome", 0)
        told.setdefault("body", f"answer {name}".encode())
        register, target = told.pop("register", "1"), told.pop("target", None)
        head = (op.name, told.pop("card", 1))
        target_id = None if target is None else request_id(target)
        self.events.append(Event(self.clock_ms, register, SENT, request_id(name), *head, target=target_id))
        self.clock_ms += takes_ms
        self.events.append(Event(self.clock_ms, register, ANSWERED, request_id(name), *head, target=target_id, **told))
        self.clock_ms += 10
        return self.events[-1]

    def both(self, op: Op, name: str, *, target: str | None = None, **fields: Any) -> Event:
        """Enter it and let it be heard."""
        self.enter(op, name, target=target, **fields)
        return self.ask(op, name, target=target)

    def sums(self) -> list[dict[str, Any]]:
        """Fill in numbers, running sums and links wherever a test has not; return the account's row."""
        sums: Counter[str] = Counter()
        link = 0
        for seq, entry in enumerate(self.entries, 1):
            for name in ("points", "held", "owed"):
                sums[name] += entry[name]
            entry.setdefault("seq", seq)
            for name, of in (("balance_after", "points"), ("held_after", "held"), ("owed_after", "owed")):
                entry.setdefault(name, sums[of])
            entry.setdefault("link", link_behind(link, entry))
            link = entry["link"]
        head = {"account_id": 7, "seq": len(self.entries), "link": link, "due_ms": self.due_ms}
        return [head | {"balance": sums["points"], "held": sums["held"], "owed": sums["owed"]}]

    def judged(self, **account: Any) -> Verdict:
        rows = [row | account for row in self.sums()]
        return judge(self.events, self.entries, rows, now_ms=self.clock_ms, grace_ms=1_000, clock_error_ms=0)


def a_day() -> Pages:
    """Return a journal with one of everything, told as it was."""
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000, amount=20_000)
    pages.both(Op.REDEEM, "redeem", free=-300, spent=300, amount=500)
    pages.both(Op.REFUND, "refund", target="redeem", free=150, spent=-150, refunded=250)
    pages.both(Op.REVERSE, "reverse", target="redeem", free=150, spent=-150, refunded=-250)
    pages.both(Op.HOLD, "hold", free=-400, held=400, until_ms=NOW_MS + 60_000)
    pages.both(Op.CAPTURE, "capture", target="hold", free=100, held=-400, spent=300)
    pages.both(Op.HOLD, "short", free=-50, held=50, until_ms=pages.clock_ms + 10)
    pages.clock_ms += 100
    pages.enter(Op.EXPIRE_HOLD, target="short", free=50, held=-50)
    pages.enter(Op.TOMBSTONE, "never")
    pages.both(Op.REVERSE, "bury", target="never")
    return pages
