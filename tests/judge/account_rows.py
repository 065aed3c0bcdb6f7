"""One account's journal by its sums: numbered without a gap, chained, conserved, never overdrawn.

Independent of ledger/audit.py on purpose: two who compute the same in their own way do not share a mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from ledger.operations import Operation
from tests.judge.verdict import Report

Entry = Mapping[str, Any]
Lots = dict[tuple[int, int], tuple[int, int]]

_LINKED = (
    "seq", "op", "request_id", "terminal_id", "points", "held", "owed", "balance_after", "held_after", "owed_after",
    "spent", "earned", "refunded", "amount", "eligible", "target", "moves", "at_ms", "sale_ms", "rate_bp", "cards",
)  # fmt: skip


def link_behind(link: int, entry: Entry) -> int:
    """Return the link of an entry whose predecessor has `link`: 48 bits of SHA-1 over that and the entry."""
    fields = [False if entry[name] is None else entry[name] for name in _LINKED]
    fields[-1] = [] if entry["cards"] is None else msgpack.unpackb(entry["cards"], raw=True)
    fields[_LINKED.index("moves")] = msgpack.unpackb(entry["moves"])
    packed = msgpack.packb([*fields, False], use_bin_type=False)
    return int(hashlib.sha1(f"{link}:".encode() + packed, usedforsecurity=False).hexdigest()[:12], 16)


def moves_of(entry: Entry) -> list[tuple[tuple[int, int], int, int]]:
    """Return what an entry moved as (lot, change of free points, change of held points)."""
    flat = msgpack.unpackb(entry["moves"])
    return [((flat[i], flat[i + 1]), flat[i + 2], flat[i + 3]) for i in range(0, len(flat), 4)]


def check_rows(account: Entry, entries: Sequence[Entry], report: Report) -> None:
    """Judge the entries of one account, in the journal's order, and its row."""
    seq = link = balance = held = owed = 0
    lots: Lots = {}
    for entry in entries:
        where = f"account {account['account_id']}, entry {entry['seq']}"
        if entry["seq"] != seq + 1:
            report("gaps", f"{where} follows entry {seq}")
        if entry["link"] != link_behind(link, entry):
            report("gaps", f"{where}: the link does not continue entry {seq}")
        seq, link = entry["seq"], entry["link"]
        balance, held, owed = balance + entry["points"], held + entry["held"], owed + entry["owed"]
        after = (entry["balance_after"], entry["held_after"], entry["owed_after"])
        if (balance, held, owed) != after:
            report("unconserved", f"{where}: the sum is {(balance, held, owed)}, the row says {after}")
            balance, held, owed = after
        if entry["op"] != Operation.EXPIRE_LOTS and entry["points"] != entry["earned"] - entry["spent"] + entry["owed"]:
            report("unconserved", f"{where}: points are not what was earned, less what was spent, plus what is owed")
        if not 0 <= held <= balance or owed < 0:
            report("overdrawn", f"{where}: balance {balance}, held {held}, owed {owed}")
        _move(lots, entry, where, report)
        in_lots = (sum(f + h for f, h in lots.values()), sum(h for _, h in lots.values()))
        if in_lots != (balance, held):
            report("unconserved", f"{where}: lots hold {in_lots}, the row says {(balance, held)}")
    head = (seq, link, balance, held, owed)
    row = tuple(account[name] for name in ("seq", "link", "balance", "held", "owed"))
    if row != head:
        report("unconserved", f"account {account['account_id']} is {row}, its journal ends at {head}")


def _move(lots: Lots, entry: Entry, where: str, report: Report) -> None:
    for lot, free_change, held_change in moves_of(entry):
        free, held = lots.get(lot, (0, 0))
        lots[lot] = free + free_change, held + held_change
        if min(lots[lot]) < 0:
            report("overdrawn", f"{where}: lot {lot} has {lots[lot]} free and held points")
