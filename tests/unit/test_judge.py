"""The judge sees each breach when it is fed one, and nothing when there is none."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from ledger.operations import Operation as Op
from tests.judge.events import ANSWERED, GAVE_UP, REFUSED, SENT, Event, EventLog, read
from tests.judge.judge import judge
from tests.judge.verdict import BREACHES, Verdict
from tests.unit.judge_pages import NOW_MS, Pages, a_day, request_id


def only(breach: str, verdict: Verdict) -> None:
    assert [name for name, count in verdict.as_dict().items() if count] == [breach], str(verdict)


def row(pages: Pages, name: str) -> dict[str, Any]:
    return next(entry for entry in pages.entries if entry["request_id"] == request_id(name))


def spoiled(name: str, **fields: Any) -> Verdict:
    pages = a_day()
    row(pages, name).update(fields)
    return pages.judged()


def test_a_sound_day_has_no_breach() -> None:
    verdict = a_day().judged()
    assert verdict.clean, str(verdict)
    assert str(verdict) == "no breach"
    assert list(verdict.as_dict()) == list(BREACHES)


def test_an_approval_without_entry_is_lost() -> None:
    pages = a_day()
    pages.ask(Op.REDEEM, "gone")
    only("lost", pages.judged())


def test_an_approval_of_what_a_tombstone_stopped_is_lost() -> None:
    pages = a_day()
    pages.events = [event for event in pages.events if event.request_id != request_id("bury")]
    pages.ask(Op.REDEEM, "never")
    assert pages.judged().counts["lost"] == 1


def test_an_effect_behind_its_tombstone_is_doubled() -> None:
    pages = a_day()
    pages.enter(Op.REDEEM, "never", free=-10, spent=10)
    assert pages.judged().counts["doubled"] == 1


def test_one_id_on_two_accounts_is_doubled() -> None:
    pages = a_day()
    rows = pages.sums()
    twin = row(pages, "earn") | {"account_id": 8}
    other = rows[0] | {"account_id": 8, "seq": 1, "link": twin["link"], "balance": 1000}
    verdict = judge(pages.events, [*pages.entries, twin], [*rows, other], now_ms=pages.clock_ms)
    only("doubled", verdict)


def test_a_card_on_two_accounts_is_doubled() -> None:
    pages = a_day()
    pages.events = [replace(e, card=2) if e.request_id == request_id("bury") else e for e in pages.events]
    assert pages.judged().clean
    pages.sums()
    stray = row(pages, "earn") | {"account_id": 8, "request_id": request_id("stray"), "answer": b"answer stray"}
    pages.ask(Op.EARN, "stray")
    verdict = judge(pages.events, [*pages.entries, stray], pages.sums(), now_ms=pages.clock_ms)
    assert verdict.counts["doubled"] == 1


def test_two_fresh_approvals_are_doubled() -> None:
    pages = a_day()
    for register in ("2", "3"):
        pages.events.append(Event(NOW_MS - 5, register, SENT, request_id("redeem"), "REDEEM", 1))
        pages.events.append(replace(pages.ask(Op.REDEEM, "redeem"), at_ms=NOW_MS + 50, register=register))
        del pages.events[-3:-1]
    pages.events.sort(key=lambda event: event.at_ms)
    only("doubled", pages.judged())


@pytest.mark.parametrize("op", [Op.CAPTURE, Op.RELEASE, Op.EXPIRE_HOLD])
def test_a_hold_that_ends_twice_is_doubled(op: Op) -> None:
    pages = a_day()
    pages.enter(op, "again", target="hold")
    only("doubled", pages.judged())


def test_a_hold_that_ends_by_half_is_doubled() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.HOLD, "hold", free=-400, held=400, until_ms=NOW_MS + 60_000)
    pages.both(Op.CAPTURE, "capture", target="hold", free=0, held=-300, spent=300)
    only("doubled", pages.judged())


def test_a_capture_above_its_hold_is_doubled() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.HOLD, "hold", free=-400, held=400, until_ms=NOW_MS + 60_000)
    pages.both(Op.CAPTURE, "capture", target="hold", free=-100, held=-400, spent=500)
    assert pages.judged().counts["doubled"] == 2


def test_points_held_by_no_hold_are_doubled() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.EARN, "odd", free=-100, held=100)
    only("doubled", pages.judged())


@pytest.mark.parametrize(
    "fields",
    [{"free": 301, "spent": -301}, {"free": -1, "earned": -1}, {"free": 0, "refunded": 501}],
    ids=["spent", "earned", "amount"],
)
def test_a_refund_above_its_original_is_doubled(fields: dict[str, int]) -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.REDEEM, "redeem", free=-300, spent=300, amount=500)
    pages.both(Op.REFUND, "refund", target="redeem", **fields)
    only("doubled", pages.judged())


def test_a_reversal_that_leaves_something_is_doubled() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.REDEEM, "redeem", free=-300, spent=300)
    pages.both(Op.REVERSE, "reverse", target="redeem", free=299, spent=-299)
    only("doubled", pages.judged())


def test_what_comes_after_a_reversal_is_doubled() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.HOLD, "hold", free=-400, held=400, until_ms=NOW_MS + 60_000)
    pages.both(Op.REVERSE, "reverse", target="hold", free=400, held=-400)
    pages.both(Op.CAPTURE, "capture", target="hold", free=-400, spent=400)
    assert pages.judged().counts["doubled"] >= 1


def test_a_reversed_refund_below_a_reversed_original_is_sound() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.REDEEM, "redeem", free=-300, spent=300)
    pages.both(Op.REFUND, "refund", target="redeem", free=300, spent=-300, refunded=300)
    pages.both(Op.REVERSE, "reverse", target="redeem", refunded=-300)
    pages.both(Op.REVERSE, "again", target="refund")
    verdict = pages.judged()
    assert verdict.clean, str(verdict)


def test_more_spent_than_there_was_is_overdrawn_also_when_it_comes_back() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    pages.both(Op.REDEEM, "redeem", free=-101, spent=101)
    pages.both(Op.EARN, "more", free=100, earned=100)
    only("overdrawn", pages.judged())


def test_an_overdrawn_lot_is_seen_though_another_covers_it() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    pages.both(Op.EARN, "more", free=100, earned=100, moves=[1, 0, 100, 0])
    pages.both(Op.REDEEM, "redeem", free=-150, spent=150)
    only("overdrawn", pages.judged())


def test_an_approval_and_a_decline_are_flipped() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.REDEEM, "redeem", free=-300, spent=300)
    pages.ask(Op.REDEEM, "redeem", outcome=127, body=b"declined")
    assert pages.judged().counts["flipped"] == 1


def test_a_last_answer_that_denies_an_effect_is_flipped() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    pages.enter(Op.REDEEM, "redeem", free=-100, spent=100)
    pages.ask(Op.REDEEM, "redeem", outcome=127, body=b"declined")
    only("flipped", pages.judged())


def test_a_last_answer_may_deny_what_was_reversed() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    pages.ask(Op.REDEEM, "redeem", outcome=127, body=b"declined")
    pages.enter(Op.REDEEM, "redeem", free=-100, spent=100)
    pages.both(Op.REVERSE, "reverse", target="redeem", free=100, spent=-100)
    verdict = pages.judged()
    assert verdict.clean, str(verdict)


def test_a_decline_that_was_overtaken_by_its_copy_on_another_line_is_sound() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    early = pages.clock_ms
    pages.clock_ms += 5
    pages.both(Op.REDEEM, "redeem", free=-100, spent=100)
    pages.events.append(Event(early, "1", SENT, request_id("redeem"), "REDEEM", 1, line=2))
    told = {"outcome": 127, "body": b"declined", "line": 2}
    pages.events.append(Event(pages.clock_ms, "1", ANSWERED, request_id("redeem"), "REDEEM", 1, **told))
    pages.clock_ms += 10
    pages.ask(Op.REDEEM, "redeem", replayed=True)
    pages.events.sort(key=lambda event: event.at_ms)
    verdict = pages.judged()
    assert verdict.clean, str(verdict)


def test_other_bytes_than_the_journal_has_are_flipped() -> None:
    only("flipped", spoiled("redeem", answer=b"other"))


def test_other_points_than_the_effect_are_flipped() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    pages.enter(Op.REDEEM, "redeem", free=-100, spent=100)
    pages.ask(Op.REDEEM, "redeem", points=99)
    only("flipped", pages.judged())


def test_a_replay_that_is_told_as_fresh_is_flipped() -> None:
    pages = a_day()
    pages.events = [event for event in pages.events if event.request_id != request_id("redeem")]
    pages.ask(Op.REDEEM, "redeem")
    only("flipped", pages.judged())


def test_a_tombstone_that_is_told_otherwise_is_flipped() -> None:
    pages = a_day()
    pages.ask(Op.REDEEM, "never", outcome=127, body=b"declined")
    only("flipped", pages.judged())


def test_the_same_content_refused_as_another_is_flipped() -> None:
    pages = a_day()
    reused = Event(pages.clock_ms + 1, "1", REFUSED, request_id("redeem"), "REDEEM", 1, outcome=5)
    pages.events += [Event(pages.clock_ms, "1", SENT, request_id("redeem"), "REDEEM", 1), reused]
    only("flipped", pages.judged())


@pytest.mark.parametrize(
    ("target", "status"),
    [("redeem", 2), ("hold", 4), ("earn", 1), ("never", 2), ("capture", 1), ("short", 6), ("reverse", 1)],
)
def test_a_status_that_was_so_is_sound_and_any_other_is_flipped(target: str, status: int) -> None:
    for told in range(8):
        pages = a_day()
        pages.ask(Op.STATUS, "status", target=target, status=told)
        if told == status:
            verdict = pages.judged()
            assert verdict.clean, str(verdict)
        else:
            only("flipped", pages.judged())


def test_a_status_of_what_never_was_is_unknown() -> None:
    pages = a_day()
    pages.ask(Op.STATUS, "status", target="nothing", status=0)
    assert pages.judged().clean
    pages.ask(Op.STATUS, "other", target="nothing", status=1)
    only("flipped", pages.judged())


def test_a_status_may_be_unknown_while_the_request_is_under_way() -> None:
    pages = Pages()
    pages.enter(Op.EARN, "earn", free=100, earned=100)
    pages.ask(Op.STATUS, "status", target="earn", status=0)
    pages.ask(Op.EARN, "earn")
    verdict = pages.judged()
    assert verdict.clean, str(verdict)


def test_a_balance_that_was_so_meanwhile_is_sound_and_any_other_is_flipped() -> None:
    for told, sound in {
        (700, 0, 0, 0): True,
        (701, 0, 0, 0): False,
        (1000, 0, 0, 0): False,
        (700, 1, 0, 0): False,
    }.items():
        pages = a_day()
        pages.ask(Op.BALANCE, "balance", balance=(*told, 0, 0))
        assert pages.judged().clean is sound, told


def test_a_balance_may_be_of_any_moment_between_asking_and_hearing() -> None:
    for told in (1000, 700):
        pages = Pages()
        pages.both(Op.EARN, "earn", free=1000, earned=1000)
        pages.ask(Op.BALANCE, "balance", takes_ms=1000, balance=(told, 0, 0, 0, 0, 0), register="2")
        pages.clock_ms -= 600
        pages.both(Op.REDEEM, "redeem", free=-300, spent=300)
        pages.events.sort(key=lambda event: event.at_ms)
        verdict = pages.judged()
        assert verdict.clean, str(verdict)


def test_a_balance_out_of_the_future_is_flipped() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.ask(Op.BALANCE, "balance", balance=(700, 0, 0, 0, 0, 0))
    pages.both(Op.REDEEM, "redeem", free=-300, spent=300)
    only("flipped", pages.judged())


def test_a_provisional_balance_binds_nobody() -> None:
    pages = a_day()
    pages.ask(Op.BALANCE, "balance", balance=(1, 0, 0, 0, 0, 0), provisional=True)
    assert pages.judged().clean


def test_a_balance_counts_a_hold_that_is_due_as_free() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.HOLD, "hold", free=-400, held=400, until_ms=pages.clock_ms + 100)
    pages.ask(Op.BALANCE, "before", balance=(600, 400, 0, 0, 0, 0))
    pages.clock_ms += 200
    pages.ask(Op.BALANCE, "after", balance=(1000, 0, 0, 0, 0, 0))
    assert pages.judged().clean
    pages.ask(Op.BALANCE, "late", balance=(600, 400, 0, 0, 0, 0))
    only("flipped", pages.judged())


def test_an_approval_with_a_balance_that_is_not_its_own_is_flipped() -> None:
    pages = Pages()
    pages.enter(Op.EARN, "earn", free=1000, earned=1000)
    pages.ask(Op.EARN, "earn", balance=(1000, 0, 0, 0, 0, 0))
    assert pages.judged().clean
    pages.enter(Op.REDEEM, "redeem", free=-300, spent=300)
    pages.ask(Op.REDEEM, "redeem", balance=(1000, 0, 0, 0, 0, 0))
    only("flipped", pages.judged())


def test_a_hold_that_expires_too_early_is_flipped() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.both(Op.HOLD, "hold", free=-400, held=400, until_ms=pages.clock_ms + 60_000)
    pages.enter(Op.EXPIRE_HOLD, target="hold", free=400, held=-400)
    only("flipped", pages.judged())


def test_a_missing_number_is_a_gap() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=1000)
    pages.enter(Op.EARN, "later", free=1000, earned=1000, seq=3)
    only("gaps", pages.judged(seq=3))


@pytest.mark.parametrize("field", ["link", "terminal_id", "rate_bp", "eligible", "sale_ms"])
def test_an_altered_row_breaks_the_chain(field: str) -> None:
    pages = a_day()
    pages.sums()
    row(pages, "earn")[field] += 1
    only("gaps", pages.judged())


@pytest.mark.parametrize("field", ["balance_after", "held_after", "owed_after"])
def test_a_running_sum_that_does_not_add_up_is_unconserved(field: str) -> None:
    assert spoiled("redeem", **{field: 77}).counts["unconserved"] >= 1


@pytest.mark.parametrize("field", ["seq", "link", "balance", "held", "owed"])
def test_a_row_that_is_not_the_journals_is_unconserved(field: str) -> None:
    only("unconserved", a_day().judged(**{field: 77}))


def test_lots_that_do_not_sum_to_the_balance_are_unconserved() -> None:
    assert spoiled("earn", moves=msgpack.packb([0, 0, 999, 0])).counts["unconserved"] >= 1


def test_points_out_of_nowhere_are_unconserved() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=1000, earned=999)
    only("unconserved", pages.judged())


def test_entries_without_an_account_are_unconserved() -> None:
    pages = a_day()
    pages.sums()
    only("unconserved", judge(pages.events, pages.entries, [], now_ms=pages.clock_ms))


def _silence(pages: Pages) -> None:
    pages.events.append(Event(pages.clock_ms, "1", SENT, request_id("ask"), "REDEEM", 1))


def _unavailable(pages: Pages) -> None:
    _silence(pages)
    pages.events.append(Event(pages.clock_ms, "1", REFUSED, request_id("ask"), "REDEEM", 1, outcome=6))


def _overdue_hold(pages: Pages) -> None:
    pages.both(Op.HOLD, "long", free=-10, held=10, until_ms=pages.clock_ms + 100)
    pages.clock_ms += 2_000


def _unsettled(pages: Pages) -> None:
    pages.due_ms = pages.clock_ms - 2_000


@pytest.mark.parametrize("spoil", [_silence, _unavailable, _overdue_hold, _unsettled])
def test_what_never_ends_is_stuck(spoil: Callable[[Pages], None]) -> None:
    pages = a_day()
    spoil(pages)
    only("stuck", pages.judged())


def test_what_the_register_gave_up_is_not_stuck() -> None:
    pages = a_day()
    _silence(pages)
    pages.events.append(Event(pages.clock_ms, "1", GAVE_UP, request_id("ask"), "REDEEM", 1))
    assert pages.judged().clean


def test_verdicts_add_up_and_keep_the_first_examples() -> None:
    total, one = Verdict(), a_day().judged(balance=1)
    for _ in range(7):
        total.add(one)
    assert total.counts["unconserved"] == 7
    assert len(total.examples["unconserved"]) == 5
    with pytest.raises(KeyError):
        total.report("lots", "of trouble")


def test_a_log_is_read_as_it_was_written_up_to_a_line_cut_short(tmp_path: Any) -> None:
    path = tmp_path / "log"
    events = a_day().events
    events.append(replace(events[-1], balance=(1, 2, 3, 4, 5, 6), provisional=True, status=2, line=3))
    log = EventLog(path)
    for event in events:
        log.write(event)
    text = path.read_text()
    log.close()
    assert read(io.StringIO(text)) == events
    assert read(io.StringIO(text[:-5])) == events[:-1]


def test_of_two_copies_under_way_together_the_declined_one_may_be_heard_last() -> None:
    pages = Pages()
    pages.both(Op.EARN, "earn", free=100, earned=100)
    approved = pages.both(Op.REDEEM, "redeem", free=-50, spent=50)
    sent = pages.events[-2]
    pages.events[-1:-1] = [replace(sent, line=2)]
    pages.events.append(replace(approved, line=2, at_ms=pages.clock_ms, outcome=127, body=b"declined"))
    verdict = pages.judged()
    assert verdict.clean, str(verdict)


def test_whoever_gave_up_after_a_decline_was_not_denied_the_effect() -> None:
    pages = Pages()
    pages.ask(Op.EARN, "earn", outcome=104, body=b"declined")
    pages.enter(Op.EARN, "earn", free=100, earned=100)
    denied = pages.events[-1]
    only("flipped", pages.judged())
    pages.events.append(replace(denied, event=GAVE_UP, at_ms=pages.clock_ms, outcome=None, body=b""))
    assert pages.judged().clean
