"""What the registers were told, held against the journal: nothing lost, nothing told two ways or too late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ledger.operations import Operation as Op
from tests.judge.account_rows import Entry
from tests.judge.events import ANSWERED, GAVE_UP, REFUSED, SENT, Event
from tests.judge.moments import Moments, Window, standings
from tests.judge.relayed import Relayed, Stores, heard_by_relay
from tests.judge.timeline import Journal, Timeline, asked_at
from tests.judge.verdict import Report

_ID_REUSED = 5
_FINAL_ERRORS = frozenset({1, 2, _ID_REUSED})
_TOLD_POINTS = {Op.REDEEM: "spent", Op.SALE: "spent", Op.CAPTURE: "spent", Op.HOLD: "held"}


class Answers:
    """Judges each answer by what can be known of the journal at the time."""

    def __init__(
        self, events: Sequence[Event], journal: Journal, stores: Stores, clock_error_ms: int, report: Report
    ) -> None:
        self._events = events
        self._journal = journal
        self._relayed = Relayed(events, journal, stores, report)
        self._timeline = Timeline(journal, events, self._relayed.local)
        self._asked = asked_at(events)
        self._moments: dict[int, Moments] = {}
        self._account_of = _accounts_by_card(events, journal, report)
        self._clock_error_ms = clock_error_ms
        self._report = report

    def check(self) -> None:
        """Judge them all."""
        copies: dict[bytes, list[Event]] = defaultdict(list)
        for index, event in enumerate(self._events):
            copies[event.request_id].append(event)
            if event.event == ANSWERED:
                self._check_answer(event, self._asked[index])
        self._relayed.check()
        for request_id, history in copies.items():
            self._check_history(request_id, history)

    def _check_history(self, request_id: bytes, history: list[Event]) -> None:
        answers = [event for event in history if event.event == ANSWERED]
        fresh = [e for e in answers if e.approved and not e.replayed and not self._relayed.own(e)]
        entry = self._journal.by_id.get(request_id)
        if not history[0].question:
            if len(fresh) > 1:
                self._report("doubled", f"{_name(fresh[1])} was approved afresh {len(fresh)} times")
            # Whoever gave up after a decline had asked again, and knows that it does not know. Of copies that were
            # under way together, one may have been declined before the other took effect, and be heard after it.
            last = next((event for event in reversed(history) if event.event in {ANSWERED, GAVE_UP}), None)
            # What was reversed does not stand, so a decline is no lie about it.
            reversed_ = any(e["op"] == Op.REVERSE for e in self._journal.targeting.get(request_id, ()))
            effect = entry is not None and entry["op"] != Op.TOMBSTONE and not reversed_
            told = effect and (any(e.body == entry["answer"] for e in answers) or self._relayed.told(request_id))
            # A relay without headquarters declines one copy, and says nothing of those before it.
            copies = sum(event.event == SENT for event in history)
            silent = last is not None and heard_by_relay(last) and copies > 1
            if effect and not told and not silent and last is not None and last.event == ANSWERED:
                self._report("flipped", f"{_name(last)} has an effect, but its last answer denies it")
        self._check_reuse(history)
        self._check_end(history)

    def _check_reuse(self, history: list[Event]) -> None:
        contents = {(e.op, e.card, e.points, e.amount, e.target) for e in history if e.event == SENT}
        reused = [event for event in history if event.event == REFUSED and event.outcome == _ID_REUSED]
        if reused and len(contents) == 1:
            self._report("flipped", f"{_name(reused[0])} was refused as another request with the same id")

    def _check_end(self, history: list[Event]) -> None:
        final = any(
            event.event in {ANSWERED, GAVE_UP} or (event.event == REFUSED and event.outcome in _FINAL_ERRORS)
            for event in history
        )
        if not final:
            self._report("stuck", f"{_name(history[-1])} has no final answer after {len(history)} events")

    def _check_answer(self, event: Event, asked_ms: int) -> None:
        if self._relayed.own(event) or (self._relayed.local(event) and not event.approved):
            return
        entry = self._journal.by_id.get(event.request_id)
        if event.approved and not event.question:
            self._check_approval(event, entry)
        if entry is not None and not event.question:
            self._check_known(event, entry, asked_ms)
        if event.op == "STATUS" and event.approved:
            self._check_status(event, asked_ms)
        elif event.balance is not None and not event.provisional:
            self._check_balance(event, entry, asked_ms)

    def _check_approval(self, event: Event, entry: Entry | None) -> None:
        if entry is None:
            self._report("lost", f"{_name(event)} was approved, but has no entry")
        elif entry["op"] == Op.TOMBSTONE:
            self._report("lost", f"{_name(event)} was approved, but the journal says that it never took effect")
        elif event.body != entry["answer"]:
            self._report("flipped", f"{_name(event)} was answered other bytes than the journal has")
        elif entry["op"] != Op[event.op]:
            self._report("flipped", f"{_name(event)} was journaled as {Op(entry['op']).name}")
        elif event.points is not None and entry["op"] in _TOLD_POINTS:
            effect = entry[_TOLD_POINTS[entry["op"]]]
            if effect != event.points:
                self._report("flipped", f"{_name(event)} was told {event.points} points, {effect} is the effect")

    def _check_known(self, event: Event, entry: Entry, asked_ms: int) -> None:
        """Judge the answer to a copy that was sent when the journal is known to have had the entry."""
        if not event.approved and self._account_of.get(event.card) != entry["account_id"]:
            # Not a copy, but another request with a used id: its decline has no effect, and says nothing of the first.
            return
        if self._timeline.journaled_before(entry["account_id"], asked_ms) < entry["seq"]:
            return
        if event.body != entry["answer"]:
            self._report("flipped", f"{_name(event)} was journaled before this copy was sent, yet told otherwise")
        elif event.approved and not event.replayed:
            self._report("flipped", f"{_name(event)} was journaled before this copy was sent, yet not told as a replay")

    def _check_status(self, event: Event, asked_ms: int) -> None:
        if event.target is not None and self._relayed.told(event.target):
            # The relay knows what headquarters does not know yet.
            return
        target = self._journal.by_id.get(event.target) if event.target is not None else None
        if target is None or event.target is None:
            if event.status != 0:
                self._report("flipped", f"{_name(event)} says {event.status} of a request without any entry")
            return
        first, last = self._range(target["account_id"], asked_ms, event.at_ms)
        window = self._window(asked_ms, event.at_ms)
        allowed = {s for seq in range(first, last + 1) for s in standings(self._journal, event.target, seq, window)}
        if event.status not in allowed:
            self._report("flipped", f"{_name(event)} says {event.status}, but {sorted(allowed)} was so then")

    def _check_balance(self, event: Event, entry: Entry | None, asked_ms: int) -> None:
        if event.approved and not event.question:
            if entry is None:
                return
            account, first, last = entry["account_id"], entry["seq"], self._last_of(entry)
            # A replay tells what was so when the entry was made, at a time of which the registers know nothing.
            window = self._window(entry["at_ms"], entry["at_ms"])
        elif event.card not in self._account_of or event.replayed:
            return
        else:
            account = self._account_of[event.card]
            first, last = self._range(account, asked_ms, event.at_ms)
            window = self._window(asked_ms, event.at_ms)
        if account not in self._moments:
            self._moments[account] = Moments(self._journal.by_account[account])
        told, moments = tuple(event.balance or ())[:4], self._moments[account]
        if not any(told in moments.balances(seq, window) for seq in range(first, last + 1)):
            self._report("flipped", f"{_name(event)} told the balance {told}, which was so at no entry {first}..{last}")

    def _last_of(self, entry: Entry) -> int:
        """Return the seq of the last entry that the same decision made: points that came in expired at once."""
        last: int = entry["seq"]
        for after in self._journal.by_account[entry["account_id"]][last:]:
            if after["op"] != Op.EXPIRE_LOTS or after["target"] != entry["request_id"]:
                break
            last = after["seq"]
        return last

    def _range(self, account: int, asked_ms: int, heard_ms: int) -> tuple[int, int]:
        first = self._timeline.journaled_before(account, asked_ms)
        return first, self._timeline.possible_until(account, heard_ms, first)

    def _window(self, from_ms: int, until_ms: int) -> Window:
        return Window(from_ms - self._clock_error_ms, until_ms + self._clock_error_ms)


def _accounts_by_card(events: Sequence[Event], journal: Journal, report: Report) -> dict[int, int]:
    """Return which account each card leads to, by the entries that its requests made."""
    accounts: dict[int, int] = {}
    for event in events:
        entry = journal.by_id.get(event.request_id)
        if event.event != ANSWERED or entry is None or event.question or entry["op"] == Op.TOMBSTONE:
            continue
        # Another request may have taken the id, for another card, and this one was declined.
        if event.body == entry["answer"]:
            account = accounts.setdefault(event.card, entry["account_id"])
            if account != entry["account_id"]:
                report("doubled", f"{_name(event)} is on account {entry['account_id']}, its card's is {account}")
    return accounts


def _name(event: Event) -> str:
    return (
        f"{event.op} {event.request_id.hex()[:12]} on card {event.card} (register {event.register}, {event.at_ms} ms)"
    )
