"""What each SQL statement of the ledger does, in Python on the model's tables; recognised by its text.

A statement that is not here fails the scenario: the model must be taught it, and its contract test with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import asyncpg

from ledger.journal.statements import statement
from tests.simulator.postgres_tables import ENTRY_COLUMNS, Record, View, columns, entry_record, violation

Execute = Callable[[View, Sequence[Any]], list[Record]]

_COMMITTED = columns("fenced_in", "accounts")
_ACCOUNT = columns("account_id", "seq", "link", "state")
_REQUEST = columns("request_id", "account_id", "op", "fingerprint", "answer")
_CARD = columns("token", "account_id", "status", "pristine", "former")
_HOME = columns("token", "request_id", "account_id", "taken_from")
_ONE = {
    name: columns(name)
    for name in ("account_id", "spent", "generation", "token", "partitions", "wanted_by", "lock", "target")
}
_REACHED = columns("account_id", "reached")
_GREETING = columns("account_id", "greeting")
_CLAIM = columns("epoch", "generation", "mark", "served", "served_by", "standby")
_OWNERS = columns("version", "partition_id", "owner")
_FAMILY = columns(
    "original", "account_id", "seq", "op", "request_id", "network_id", "terminal_id", "amount", "eligible", "spent",
    "earned", "refunded", "moves", "target", "rate_bp", "until_ms", "cards", "answer", "above_reversed", "counted_ms",
)  # fmt: skip
_TERMINAL = columns(
    "terminal_id", "code", "network_id", "store_id", "permitted", "salt", "iterations", "stored_key", "server_key",
    "active",
)  # fmt: skip
_RULES = (
    "valid_from_ms", "earn_rate_bp", "activation_days", "expiry_days", "expiry_months", "expiry_at_month_end",
    "redeem_min", "redeem_max", "share_bp", "day_points_max", "day_count_max", "terminal_day_points_max",
    "hold_default_ms", "hold_max_ms", "holds_max", "greeting", "slip",
)  # fmt: skip
_PROGRAMME = columns("version", "time_zone", "network_id", "partner_id", "name", "currency", *_RULES)
_GENERATIONS = 2**32
_REVERSE, _CAPTURE, _HOLD = 24, 19, 18
_MERGE_OUT, _MERGE_IN, _UNLINK = 47, 48, 51
_OP, _REQUEST_ID, _BALANCE_AFTER, _TARGET, _AT_MS = 3, 4, 10, 18, 20
_GONE = 4


def _commit(view: View, args: Sequence[Any]) -> list[Record]:
    mark, partition, epoch, rows = args
    fence = view.get("partition", partition)
    if fence is None or fence["epoch"] != epoch:
        return [Record(_COMMITTED, (False, []))]
    view.lock("partition", partition)
    view.put("partition", partition, {**fence, "mark": mark})
    taken = []
    for row in rows:
        account_id, seq, link = row[:3]
        after_seq, after_link, due_ms, state = row[len(ENTRY_COLUMNS) :]
        if state is None:
            continue
        balance, held, owed = row[_BALANCE_AFTER : _BALANCE_AFTER + 3]
        account = view.get("account", account_id)
        if account is None or account["seq"] != after_seq or account["link"] != after_link:
            continue
        view.lock("account", account_id)
        if not 0 <= held <= balance:
            raise violation(asyncpg.CheckViolationError, "account_check")
        if owed < 0:
            raise violation(asyncpg.CheckViolationError, "account_owed_check")
        view.put(
            "account",
            account_id,
            {"account_id": account_id, "seq": seq, "link": link, "balance": balance, "held": held, "owed": owed,
             "due_ms": due_ms, "state": state},
        )  # fmt: skip
        taken.append(account_id)
    accounts = set(taken)
    for row in rows:
        if row[0] in accounts:
            view.insert_entry(row[: len(ENTRY_COLUMNS)])
    return [Record(_COMMITTED, (True, taken))]


def _change_cards(view: View, args: Sequence[Any]) -> list[Record]:
    taken = []
    for token, account_id, status, kind, masked in zip(*args, strict=True):
        view.lock("card", token)
        card = view.get("card", token)
        if status == _GONE:
            if card is not None and card["account_id"] == account_id:
                view.put("card", token, None)
                taken.append(Record(_ONE["token"], (token,)))
            continue
        if not 0 <= status <= 3:
            raise violation(asyncpg.CheckViolationError, "card_status_check")
        if card is None:
            if view.get("account", account_id) is None:
                raise violation(asyncpg.ForeignKeyViolationError, "card_account_id_fkey")
            card = {"token": token, "kind": kind, "masked": masked}
        elif card["account_id"] != account_id:
            if card["status"] == 0 and view.get("account", card["account_id"])["seq"] == 0:
                view.lock("account", card["account_id"])
            elif _taken_in_by(view, card["account_id"]) != account_id:
                continue
        view.put("card", token, {**card, "account_id": account_id, "status": status})
        taken.append(Record(_ONE["token"], (token,)))
    return taken


def _taken_in_by(view: View, account_id: int) -> int | None:
    """Return the account that a closed one has become part of."""
    last = view.get("entry", (account_id, view.get("account", account_id)["seq"]))
    if last is None or last[_OP] != _MERGE_OUT:
        return None
    return next((row[0] for row in view.targeting(last[_REQUEST_ID]) if row[_OP] == _MERGE_IN), None)


def _add_terminal_days(view: View, args: Sequence[Any]) -> list[Record]:
    for terminal_id, day, spent in zip(*args, strict=True):
        key = (terminal_id, day)
        view.lock("terminal_day", key)
        view.put("terminal_day", key, (view.get("terminal_day", key) or 0) + spent)
    return []


def _own_partition(view: View, args: Sequence[Any]) -> list[Record]:
    partition, owner = args
    view.lock("partition", partition)
    former = view.get("partition", partition)
    row = {**former, "epoch": former["epoch"] + 1, "owner": owner, "wanted_by": ""}
    view.put("partition", partition, row)
    return [Record(_CLAIM, tuple(row[name] for name in _CLAIM))]


def _serve_partition(view: View, args: Sequence[Any]) -> list[Record]:
    partition, epoch, standby = args
    row = view.get("partition", partition)
    if row is None or row["epoch"] != epoch:
        return []
    view.lock("partition", partition)
    begun = {**row, "served": epoch, "served_by": row["owner"], "standby": standby}
    view.put("partition", partition, begun)
    return [Record(_ONE["wanted_by"], (row["wanted_by"],))]


def _void_generation(view: View, args: Sequence[Any]) -> list[Record]:
    partition, epoch = args
    row = view.get("partition", partition)
    if row is None or row["epoch"] != epoch:
        return []
    view.lock("partition", partition)
    drawn = int(view.session.random() * (_GENERATIONS - 2))
    generation = (row["generation"] + 1 + drawn) % _GENERATIONS
    view.put("partition", partition, {**row, "generation": generation})
    return [Record(_ONE["generation"], (generation,))]


def _ask_for_partition(view: View, args: Sequence[Any]) -> list[Record]:
    partition, wanted_by = args
    row = view.get("partition", partition)
    if row is not None and row["owner"] != wanted_by and row["wanted_by"] != wanted_by:
        view.lock("partition", partition)
        view.put("partition", partition, {**row, "wanted_by": wanted_by})
    return []


def _wanted_by(view: View, args: Sequence[Any]) -> list[Record]:
    row = view.get("partition", args[0])
    return [Record(_ONE["wanted_by"], (row["wanted_by"],))] if row else []


def _partition_owners(view: View, args: Sequence[Any]) -> list[Record]:
    version = view.get("programme", True)["version"]
    return [Record(_OWNERS, (version, number, row["owner"])) for number, row in view.tables.rows["partition"].items()]


def _partitions(view: View, args: Sequence[Any]) -> list[Record]:
    view.lock("programme", True)
    return [Record(_ONE["partitions"], (view.get("programme", True)["partitions"],))]


def _programme(view: View, args: Sequence[Any]) -> list[Record]:
    programme = view.get("programme", True)
    head = (programme["version"], programme["time_zone"])
    found = []
    for network_id, network in sorted(view.tables.rows["network"].items()):
        named = (*head, network_id, network["partner_id"], network["name"], network["currency"])
        rules = view.tables.rows["rules"].get(network_id) or [dict.fromkeys(_RULES)]
        found += [Record(_PROGRAMME, (*named, *(row[name] for name in _RULES))) for row in rules]
    return found or [Record(_PROGRAMME, (*head, *[None] * (len(_PROGRAMME) - 2)))]


def _find_accounts(view: View, args: Sequence[Any]) -> list[Record]:
    rows = [row for account in dict.fromkeys(args[0]) if (row := view.get("account", account)) is not None]
    return [Record(_ACCOUNT, (row["account_id"], row["seq"], row["link"], row["state"])) for row in rows]


def _find_requests(view: View, args: Sequence[Any]) -> list[Record]:
    rows = [row for request in dict.fromkeys(args[0]) if (row := view.tables.requests.get(request)) is not None]
    return [Record(_REQUEST, (row[_REQUEST_ID], row[0], row[_OP], row[27], row[28])) for row in rows]


def _find_cards(view: View, args: Sequence[Any]) -> list[Record]:
    rows = [row for token in dict.fromkeys(args[0]) if (row := view.get("card", token)) is not None]
    return [
        Record(
            _CARD,
            (c["token"], c["account_id"], c["status"], view.get("account", c["account_id"])["seq"] == 0,
             bool(_taken_from(view, c["token"]))),
        )
        for c in rows
    ]  # fmt: skip


def _taken_from(view: View, token: bytes) -> list[int]:
    """Return the accounts that a card was taken from."""
    return [row[0] for row in view.tables.unlinked.get(token, ())]


def _find_former_homes(view: View, args: Sequence[Any]) -> list[Record]:
    return [
        Record(_HOME, (token, request_id, view.tables.requests[request_id][0], account))
        for token, request_id in zip(*args, strict=True)
        if request_id in view.tables.requests
        for account in _taken_from(view, token)
    ]


def _find_greetings(view: View, args: Sequence[Any]) -> list[Record]:
    found = [(account, view.get("member", account)) for account in dict.fromkeys(args[0])]
    return [Record(_GREETING, pair) for pair in found if pair[1] is not None]


def _due_accounts(view: View, args: Sequence[Any]) -> list[Record]:
    now_ms, partitions, partition, limit = args
    due = [
        (row["due_ms"], account)
        for account, row in view.tables.rows["account"].items()
        if row["due_ms"] is not None and row["due_ms"] <= now_ms and account % partitions == partition
    ]
    return [Record(_ONE["account_id"], (account,)) for _, account in sorted(due)[:limit]]


def _terminals_by_code(view: View, args: Sequence[Any]) -> list[Record]:
    rows = [row for code in args[0] if (row := view.get("terminal", code)) is not None]
    return [Record(_TERMINAL, tuple(row[name] for name in _TERMINAL)) for row in rows]


def _terminal_spent(view: View, args: Sequence[Any]) -> list[Record]:
    spent = view.get("terminal_day", tuple(args))
    return [] if spent is None else [Record(_ONE["spent"], (spent,))]


def _family(view: View, args: Sequence[Any]) -> list[Record]:
    requests = view.tables.requests
    found = []
    for original in dict.fromkeys(args[0]):
        if original not in requests:
            continue
        family, generation = [], [requests[original]]
        while generation:
            family += generation
            generation = [
                c for row in generation if row[_REQUEST_ID] for c in view.tables.targeting.get(row[_REQUEST_ID], ())
            ]
        above_reversed = _above_reversed(view, requests[original])
        for row in family:
            hold = requests.get(row[_TARGET]) if row[_OP] == _CAPTURE else None
            counted_ms = hold[_AT_MS] if hold is not None and hold[_OP] == _HOLD else row[_AT_MS]
            r = entry_record(row)
            found.append(
                (original, row[0], r["seq"], r["op"], r["request_id"], r["network_id"], r["terminal_id"], r["amount"],
                 r["eligible"], r["spent"], r["earned"], r["refunded"], r["moves"], r["target"], r["rate_bp"],
                 r["until_ms"], r["cards"], r["answer"], row[_REQUEST_ID] == original and above_reversed, counted_ms)
            )  # fmt: skip
    found.sort(key=lambda row: (row[0], row[4] != row[0], row[1], row[2]))
    return [Record(_FAMILY, row) for row in found]


def _above_reversed(view: View, row: tuple[Any, ...]) -> bool:
    """Return whether anything that the request targets, directly or not, has been reversed."""
    target = None if row[_OP] == _REVERSE else row[_TARGET]
    while target is not None:
        if any(other[_OP] == _REVERSE for other in view.tables.targeting.get(target, ())):
            return True
        above = view.tables.requests.get(target)
        target = above[_TARGET] if above is not None else None
    return False


def _merged_into(view: View, args: Sequence[Any]) -> list[Record]:
    found = []
    for account in dict.fromkeys(args[0]):
        reached = account
        while view.get("account", reached) is not None and (after := _taken_in_by(view, reached)) is not None:
            reached = after
        if reached != account:
            found.append(Record(_REACHED, (account, reached)))
    return found


def _find_merges(view: View, args: Sequence[Any]) -> list[Record]:
    taken = [target for target in args[0] if any(row[_OP] == _MERGE_IN for row in view.targeting(target))]
    return [Record(_ONE["target"], (target,)) for target in dict.fromkeys(taken)]


def _try_advisory_lock(view: View, args: Sequence[Any]) -> list[Record]:
    return [Record(_ONE["lock"], (view.session.try_advisory_lock(tuple(args)),))]


@cache
def statements() -> dict[str, Execute]:
    """Return what each text does."""
    named = {
        "commit": _commit,
        "change_cards": _change_cards,
        "add_terminal_days": _add_terminal_days,
        "own_partition": _own_partition,
        "serve_partition": _serve_partition,
        "void_generation": _void_generation,
        "ask_for_partition": _ask_for_partition,
        "partition_owners": _partition_owners,
        "programme": _programme,
        "find_accounts": _find_accounts,
        "find_requests": _find_requests,
        "find_cards": _find_cards,
        "find_former_homes": _find_former_homes,
        "find_greetings": _find_greetings,
        "due_accounts": _due_accounts,
        "terminals_by_code": _terminals_by_code,
        "terminal_spent": _terminal_spent,
        "family": _family,
        "merged_into": _merged_into,
        "find_merges": _find_merges,
    }
    return {
        **{statement(name): execute for name, execute in named.items()},
        "SELECT pg_try_advisory_lock($1, $2)": _try_advisory_lock,
        "SELECT wanted_by FROM partition WHERE partition_id = $1": _wanted_by,
        "SELECT partitions FROM programme FOR UPDATE": _partitions,
    }
