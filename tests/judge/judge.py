"""The judge: from what the registers logged and what the journal holds, and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.judge.account_rows import Entry, check_rows
from tests.judge.answers import Answers
from tests.judge.events import Event
from tests.judge.families import check_families, open_holds
from tests.judge.relayed import Stores
from tests.judge.timeline import Journal
from tests.judge.verdict import Verdict


def judge(
    events: Sequence[Event],
    entries: Iterable[Entry],
    accounts: Iterable[Entry],
    *,
    now_ms: int,
    grace_ms: int = 60_000,
    clock_error_ms: int = 1_000,
    stores: Stores | None = None,
) -> Verdict:
    """Return every breach that can be seen.

    `events`: in the order of `at_ms`. `entries`: the rows of table `entry` ordered by (account_id, seq); `accounts`:
    the rows of table `account`. `now_ms`: the server's clock when the journal was read; what was due `grace_ms`
    earlier must be done. `clock_error_ms`: how far the server's clock may be from the registers', either way.
    `stores`: which registers stand behind relays, whose backlogs are drained.
    """
    verdict = Verdict()
    rows = list(entries)
    journal = Journal(rows)
    ids = Counter(entry["request_id"] for entry in rows if entry["request_id"] is not None)
    for request_id, count in ids.items():
        if count > 1:
            verdict.report("doubled", f"request {request_id.hex()[:12]} has {count} entries")
    heads = {account["account_id"]: account for account in accounts}
    for account in journal.by_account.keys() - heads.keys():
        verdict.report("unconserved", f"account {account} has entries but no row")
    for account, head in heads.items():
        history = journal.by_account.get(account, [])
        check_rows(head, history, verdict.report)
        check_families(history, verdict.report)
        _check_due(head, history, now_ms - grace_ms, verdict)
    Answers(events, journal, stores or Stores(), clock_error_ms, verdict.report).check()
    return verdict


def _check_due(head: Entry, entries: Sequence[Entry], latest_ms: int, verdict: Verdict) -> None:
    for hold in open_holds(entries):
        if hold["until_ms"] < latest_ms:
            verdict.report(
                "stuck", f"account {head['account_id']}: hold {hold['request_id'].hex()[:12]} is long overdue"
            )
    if head["due_ms"] is not None and head["due_ms"] < latest_ms:
        verdict.report("stuck", f"account {head['account_id']} should have been settled by {head['due_ms']}")
