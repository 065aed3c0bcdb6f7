"""The judge knows what a relay answered itself, and sees each way in which that can come to nothing or to too much."""

from typing import Any

from ledger.operations import Operation as Op
from tests.judge.events import ANSWERED, SENT, Event
from tests.judge.judge import judge
from tests.judge.relayed import Stores
from tests.judge.verdict import Verdict
from tests.unit.judge_pages import Pages, a_day, request_id

SHOP = "shop-1"
BALANCE = (1000, 0, 0, 0, 0, 0)
OWN = b"the relay's own words"


def judged(pages: Pages, fickle: tuple[int, ...] = (), **conflicts: int) -> Verdict:
    rows = {request_id(name): {"outcome": outcome} for name, outcome in conflicts.items()}
    stores = Stores(frozenset({SHOP}), rows, frozenset(fickle))
    return judge(
        pages.events, pages.entries, pages.sums(), now_ms=pages.clock_ms, grace_ms=1_000, clock_error_ms=0,
        stores=stores,
    )  # fmt: skip


def only(breach: str, verdict: Verdict, words: str) -> None:
    assert [name for name, count in verdict.as_dict().items() if count] == [breach], str(verdict)
    assert words in str(verdict)


def offline(op: Op, name: str, pages: Pages, **told: Any) -> Event:
    return pages.ask(op, name, register=SHOP, **{"points": 0, "body": OWN, **told})


def a_day_alone() -> Pages:
    """A day after which a store was cut off, sold, spent an allowance, and came back."""
    pages = a_day()
    pages.enter(Op.HOLD, "allowance", free=-100, held=100, until_ms=pages.clock_ms + 10_000_000)
    offline(Op.EARN, "late", pages)
    offline(Op.EARN, "late", pages, replayed=True)
    offline(Op.REDEEM, "spent", pages, points=60)
    offline(Op.EARN, "taken", pages)
    offline(Op.REVERSE, "back", pages, target="taken")
    offline(Op.STATUS, "status", pages, target="taken", status=2, balance=None)
    pages.ask(Op.REDEEM, "declined", register=SHOP, outcome=128, body=b"offline")
    pages.enter(Op.EARN, "late", free=50, earned=50)
    pages.enter(Op.CAPTURE, "spent", target="allowance", free=40, held=-100, spent=60)
    pages.enter(Op.EARN, "taken", free=10, earned=10)
    pages.enter(Op.REVERSE, "back", target="taken", free=-10, earned=-10)
    return pages


def without(pages: Pages, name: str) -> Pages:
    pages.entries = [entry for entry in pages.entries if entry["request_id"] != request_id(name)]
    return pages


def test_a_store_that_was_alone_and_drained_has_no_breach() -> None:
    verdict = judged(a_day_alone())
    assert verdict.clean, str(verdict)


def test_the_same_answers_of_a_register_without_a_relay_are_breaches() -> None:
    assert not a_day_alone().judged().clean


def test_what_a_relay_approved_and_nobody_has_is_lost() -> None:
    only("lost", judged(without(a_day_alone(), "late")), "no entry and is no conflict")


def test_what_a_relay_approved_and_headquarters_declined_is_a_conflict_and_must_be_explained() -> None:
    assert judged(without(a_day_alone(), "late"), fickle=(1,), late=105).clean
    only("flipped", judged(without(a_day_alone(), "late"), late=105), "nothing explains")
    only("flipped", judged(a_day_alone(), fickle=(1,), late=105), "has an effect")
    only("flipped", judged(a_day_alone(), fickle=(1,), other=105), "no register was told")


def test_a_sale_that_was_taken_back_before_it_came_is_a_conflict_that_explains_itself() -> None:
    pages = a_day()
    offline(Op.EARN, "late", pages)
    pages.enter(Op.TOMBSTONE, "late")
    assert judged(pages).counts["lost"] == 1
    pages.both(Op.REVERSE, "undo", target="late")
    assert judged(pages, late=100).clean


def test_a_release_of_a_hold_that_had_ended_explains_itself() -> None:
    pages = a_day()
    offline(Op.RELEASE, "late", pages, target="short")
    assert judged(pages, late=116).clean
    offline(Op.RELEASE, "open", pages, target="held")
    pages.enter(Op.HOLD, "held", free=-10, held=10, until_ms=pages.clock_ms + 10_000_000)
    only("flipped", judged(pages, late=116, open=116), "nothing explains")


def test_a_relays_answer_in_headquarters_bytes_does_not_prove_that_headquarters_had_heard() -> None:
    pages = a_day()
    offline(Op.REVERSE, "undo", pages, target="nothing", body=b"answer undo")
    # Asked later, at headquarters itself, and journaled before what the relay had not sent yet.
    pages.both(Op.EARN, "direct", free=5, earned=5)
    pages.enter(Op.TOMBSTONE, "nothing")
    pages.enter(Op.REVERSE, "undo", target="nothing")
    verdict = judged(pages)
    assert verdict.clean, str(verdict)


def test_a_relay_knows_what_was_reversed_before_headquarters_does() -> None:
    pages = a_day()
    offline(Op.REVERSE, "undo", pages, target="late")
    pages.ask(Op.REDEEM, "late", register=SHOP, outcome=100, body=b"reversed")
    pages.both(Op.EARN, "direct", free=5, earned=5)
    pages.enter(Op.TOMBSTONE, "late", answer=b"reversed")
    pages.enter(Op.REVERSE, "undo", target="late")
    verdict = judged(pages)
    assert verdict.clean, str(verdict)
    pages.ask(Op.REDEEM, "other", register=SHOP, outcome=100, body=b"reversed")
    only("flipped", judged(pages), "told that it was reversed")


def test_points_out_of_an_allowance_are_those_that_were_told() -> None:
    pages = a_day_alone()
    entry = next(entry for entry in pages.entries if entry["request_id"] == request_id("spent"))
    entry["spent"] = 59
    assert "was told 60 points, 59 is the effect" in str(judged(pages))


def test_a_relay_that_contradicts_itself_is_seen() -> None:
    pages = a_day_alone()
    offline(Op.EARN, "late", pages)
    only("doubled", judged(pages), "afresh by a relay 2 times")
    pages = a_day_alone()
    offline(Op.EARN, "late", pages, replayed=True, body=b"other words")
    only("flipped", judged(pages), "in two ways")


def test_offline_says_nothing_of_an_earlier_copy_but_denies_a_lone_one() -> None:
    pages = a_day()
    pages.enter(Op.EARN, "doubt", free=10, earned=10)
    sent = Event(pages.clock_ms - 5, SHOP, SENT, request_id("doubt"), "EARN", 1)
    pages.events.append(sent)
    pages.ask(Op.EARN, "doubt", register=SHOP, outcome=128, body=b"offline")
    assert judged(pages).clean
    pages.events.remove(sent)
    only("flipped", judged(pages), "its last answer denies it")


def test_an_approval_of_headquarters_at_a_relay_is_judged_like_any() -> None:
    pages = a_day()
    pages.events.append(Event(pages.clock_ms, SHOP, SENT, request_id("gone"), "EARN", 1))
    told = {"outcome": 0, "body": b"answer gone", "balance": BALANCE}
    pages.events.append(Event(pages.clock_ms + 1, SHOP, ANSWERED, request_id("gone"), "EARN", 1, **told))
    pages.clock_ms += 10
    only("lost", judged(pages), "was approved, but has no entry")
