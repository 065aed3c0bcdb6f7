"""Requests and what hangs on them: holds end once, refunds stay below what was spent, what is reversed is nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ledger.operations import Operation as Op
from tests.judge.account_rows import Entry
from tests.judge.verdict import Report

_ENDS_A_HOLD = frozenset({Op.CAPTURE, Op.RELEASE, Op.EXPIRE_HOLD})
_RECEIPTS = frozenset({Op.REDEEM, Op.CAPTURE, Op.SALE, Op.EARN})


@dataclass
class _Node:
    """An entry that others may target, and what it and all that hangs on it add up to."""

    entry: Entry
    spent: int = 0
    earned: int = 0
    refunded: int = 0
    open_hold: int = 0
    reversed: bool = False


def check_families(entries: Sequence[Entry], report: Report) -> None:
    """Judge the entries of one account, in the journal's order."""
    nodes: dict[bytes, _Node] = {}
    for entry in entries:
        where = f"account {entry['account_id']}, entry {entry['seq']} ({Op(entry['op']).name})"
        _end_hold(nodes, entry, where, report)
        node = _Node(entry, open_hold=entry["held"] if entry["op"] == Op.HOLD else 0)
        if entry["request_id"] is not None and entry["request_id"] not in nodes:
            nodes[entry["request_id"]] = node
        above = list(_upwards(nodes, entry))
        was_reversed = any(each.reversed for each in above)
        for each in (node, *above):
            each.spent += entry["spent"]
            each.earned += entry["earned"]
            each.refunded += entry["refunded"]
        if entry["op"] == Op.REVERSE and above and not was_reversed:
            above[0].reversed = True
        for each in above:
            _check(each, where, report)


def _upwards(nodes: dict[bytes, _Node], entry: Entry) -> Iterator[_Node]:
    seen = set()
    target = entry["target"]
    while target is not None and target in nodes and target not in seen:
        seen.add(target)
        yield nodes[target]
        target = nodes[target].entry["target"]


def _check(node: _Node, where: str, report: Report) -> None:
    entry = node.entry
    name = f"{Op(entry['op']).name} {_short(entry['request_id'])}"
    spendable = entry["held"] if entry["op"] == Op.HOLD else entry["spent"]
    for what, net, whole in (("spent", node.spent, spendable), ("earned", node.earned, entry["earned"])):
        if not min(whole, 0) <= net <= max(whole, 0):
            report("doubled", f"{where} leaves {net} {what} of {name}, which had {whole}")
    if entry["op"] in _RECEIPTS:
        whole = entry["amount"] or entry["spent"]
        if not 0 <= node.refunded <= whole:
            report("doubled", f"{where}: {node.refunded} is refunded of {name}, which was worth {whole}")
    if node.reversed and (node.spent, node.earned, node.open_hold) != (0, 0, 0):
        report("doubled", f"{where}: {name} is reversed, yet {node.spent} spent, {node.earned} earned stand")


def _end_hold(nodes: dict[bytes, _Node], entry: Entry, where: str, report: Report) -> None:
    hold = None if entry["target"] is None else nodes.get(entry["target"])
    held = hold.open_hold if hold is not None else 0
    if entry["op"] in _ENDS_A_HOLD and not held:
        report("doubled", f"{where} ends hold {_short(entry['target'])}, which is not open")
    elif entry["held"] < 0 and -entry["held"] != held:
        report("doubled", f"{where} frees {-entry['held']} held points of a hold with {held}")
    elif entry["held"] > 0 and entry["op"] != Op.HOLD:
        report("doubled", f"{where} holds points, though it is no HOLD")
    if entry["op"] == Op.CAPTURE and entry["spent"] > held:
        report("doubled", f"{where} spends {entry['spent']} of a hold with {held}")
    if hold is None:
        return
    if held and entry["op"] == Op.EXPIRE_HOLD and entry["at_ms"] <= hold.entry["until_ms"]:
        report("flipped", f"{where} at {entry['at_ms']}, though the hold was promised until {hold.entry['until_ms']}")
    if entry["held"] < 0 or entry["op"] in _ENDS_A_HOLD:
        hold.open_hold = 0


def open_holds(entries: Sequence[Entry]) -> list[Entry]:
    """Return the HOLD entries of one account that nothing has ended."""
    holds = {entry["request_id"]: entry for entry in entries if entry["op"] == Op.HOLD}
    for entry in entries:
        if entry["op"] in _ENDS_A_HOLD or entry["op"] == Op.REVERSE:
            holds.pop(entry["target"], None)
    return list(holds.values())


def _short(request_id: bytes | None) -> str:
    return "nothing" if request_id is None else request_id.hex()[:12]
