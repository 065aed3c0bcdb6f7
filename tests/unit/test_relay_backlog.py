"""The backlog: in order for each card, at a bounded rate, until headquarters has spoken its last word."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from protocol.codes import ErrorCode, Outcome
from protocol.messages import decode, error_frame
from protocol.relay_messages import ReplyItem, RequestItem
from protocol.requests import Request
from server.relay import backlog, patience
from server.relay.asking import LineDown, NoReply
from server.relay.store_errors import StoreFailed
from tests.rigs.relay_desk import CARD, SECOND, Premises, earn, premises, reverse
from tests.rigs.relay_headquarters import LIMITS, NOW_MS

DAY_MS = 86_400_000


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Premises]:
    async with premises(tmp_path) as made:
        made.line.up = False
        yield made


def request_of(item: RequestItem) -> Request:
    request = decode(item.message)
    assert isinstance(request, Request)
    return request


async def test_everything_arrives_once_and_each_card_in_order(shop: Premises) -> None:
    taken: dict[Any, list[bytes]] = {CARD.token: [], SECOND.token: []}
    for n in range(60):
        request = earn(card=CARD if n % 3 else SECOND)
        await shop.ask(request)
        taken[request.card.token].append(request.request_id)
    shop.line.lossy = True
    shop.line.up = True
    shop.start(shop.backlog.run())
    await asyncio.sleep(0.3)
    await shop.drained()
    for token, ids in taken.items():
        assert [each for owner, _, each in shop.headquarters.journal if owner == token] == ids
    assert shop.headquarters.balances == {CARD.token: 4_000, SECOND.token: 2_000}
    assert not shop.headquarters.conflicts


async def test_of_one_card_never_two_are_under_way_and_of_all_no_more_than_the_limit(shop: Premises) -> None:
    under_way: Counter[str | None] = Counter()
    most: dict[str, int] = {"card": 0, "all": 0}
    answer = shop.line.ask

    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        token = request_of(item).card.token
        under_way[token] += 1
        most["card"] = max(most["card"], under_way[token])
        most["all"] = max(most["all"], under_way.total())
        await asyncio.sleep(0.001)
        under_way[token] -= 1
        return await answer(item, timeout_s)

    shop.line.ask = ask  # type: ignore[method-assign]
    shop.line.limits = LIMITS._replace(backlog_in_flight_max=3)
    for n in range(100):
        await shop.ask(earn(card=type(CARD)(4, f"+4915112345{n % 10:02}")))
    await shop.drained()
    assert most == {"card": 1, "all": 3}


async def test_the_rate_is_what_headquarters_allows(shop: Premises) -> None:
    now = [0.0]
    shop.backlog._monotonic_s = lambda: now[0]
    shop.backlog._counted_at = 0.0
    shop.line.limits = LIMITS._replace(backlog_per_s_max=20, backlog_in_flight_max=100)
    for n in range(100):
        await shop.ask(earn(card=type(CARD)(4, f"+49151123{n:04}")))
    shop.line.up = True
    for second in range(5):
        for tick in range(100):
            now[0] = second + tick / 100
            await shop.backlog._turn()
            await asyncio.sleep(0)
        assert shop.backlog.sent <= (second + 1) * 20 + 2
    assert shop.backlog.sent >= 90
    await asyncio.gather(*shop.backlog._under_way)


async def test_a_decline_is_a_conflict_and_the_next_of_the_card_goes_on(shop: Premises) -> None:
    shop.headquarters.unknown.add(CARD.token or "")
    bad, good = earn(), earn(card=SECOND)
    for request in (bad, good):
        await shop.ask(request)
    await shop.drained()
    (conflict,) = await shop.store.listed_conflicts(10)
    assert (conflict.request_id, conflict.outcome, conflict.answered_ms) == (
        bad.request_id,
        Outcome.UNKNOWN_CARD,
        NOW_MS,
    )
    assert [each for _, _, each in shop.headquarters.journal] == [good.request_id]
    assert (await shop.ask(bad)).outcome == Outcome.APPROVED, "the register keeps its answer"


@pytest.mark.parametrize("code", [ErrorCode.MALFORMED, ErrorCode.UNSUPPORTED, ErrorCode.ID_REUSED])
async def test_an_error_that_will_not_go_away_is_a_conflict(shop: Premises, code: ErrorCode) -> None:
    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        return ReplyItem(item.terminal, error_frame(request_of(item).request_id, int(code), "no")[4:])

    shop.line.ask = ask  # type: ignore[method-assign]
    await shop.ask(earn())
    await shop.drained()
    (conflict,) = await shop.store.listed_conflicts(10)
    assert (conflict.outcome, conflict.error) == (None, code)


@pytest.mark.parametrize("failure", [ErrorCode.UNAVAILABLE, ErrorCode.EXPIRED, 77, NoReply, LineDown])
async def test_any_other_failure_is_asked_again_before_the_next_of_the_card(shop: Premises, failure: Any) -> None:
    shop.random.uniform = lambda low, high: 0.0  # type: ignore[method-assign]
    answer, asked = shop.line.ask, []

    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        asked.append(request_of(item).request_id)
        if len(asked) <= 3:
            if isinstance(failure, type):
                raise failure
            return ReplyItem(item.terminal, error_frame(request_of(item).request_id, int(failure), "")[4:])
        return await answer(item, timeout_s)

    shop.line.ask = ask  # type: ignore[method-assign]
    first, second = earn(), earn()
    for request in (first, second):
        await shop.ask(request)
    await shop.drained()
    assert asked == [first.request_id] * 4 + [second.request_id]


async def test_busy_lets_the_whole_backlog_wait_as_long_as_it_says(shop: Premises) -> None:
    now, sent = [asyncio.get_running_loop().time()], []

    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        sent.append(now[0])
        return ReplyItem(item.terminal, error_frame(request_of(item).request_id, int(ErrorCode.BUSY), "", 2_000)[4:])

    shop.line.ask = ask  # type: ignore[method-assign]
    shop.backlog._monotonic_s = lambda: now[0]
    shop.line.limits = LIMITS._replace(backlog_in_flight_max=1)
    for card in (CARD, SECOND):
        await shop.ask(earn(card=card))
    shop.line.up = True
    for _ in range(60):
        await shop.backlog._turn()
        await asyncio.gather(*shop.backlog._under_way)
        now[0] += 0.1
    assert len(sent) > 1
    assert all(later - earlier >= 1.99 for earlier, later in itertools.pairwise(sent))


async def test_an_answer_that_cannot_be_written_down_holds_its_card_back_until_it_can(
    shop: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_STORE_AGAIN_S", 0.01)
    finish, failures = shop.store.finish, []

    async def fails(finished: Any) -> None:
        if len(failures) < 5:
            failures.append(len(shop.headquarters.asked))
            shop.backlog.wake()
            await asyncio.sleep(0.005)
            raise StoreFailed("disk full")
        await finish(finished)

    monkeypatch.setattr(shop.store, "finish", fails)
    for _ in range(2):
        await shop.ask(earn())
    await shop.drained()
    assert failures == [1] * 5
    assert len(shop.headquarters.journal) == 2


async def test_more_than_fits_into_the_window_is_drained(shop: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "WINDOW_MAX", 4)
    for n in range(50):
        await shop.ask(earn(card=SECOND if n % 2 else CARD))
    await shop.drained()
    assert len(shop.headquarters.journal) == 50
    assert shop.backlog._held == 0
    assert not shop.backlog._lanes


async def test_what_is_queued_while_the_line_is_up_goes_at_once(
    shop: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_LOOK_EVERY_S", 1_000.0)
    first = earn()
    await shop.ask(first)
    await shop.drained()
    shop.line.silent = True
    late = earn()
    await shop.ask(late)
    shop.line.silent = False
    async with asyncio.timeout(20):
        while shop.store.queued:
            await asyncio.sleep(0.002)
    assert late.request_id in shop.headquarters.answers


async def test_a_line_that_comes_back_in_the_middle_of_taking_changes_nothing(shop: Premises) -> None:
    shop.start(shop.backlog.run())
    asked = []
    for n in range(100):
        if n % 7 == 0:
            shop.line.up = not shop.line.up
            shop.backlog.wake()
        asked.append((request := earn(), shop.hand_over(request)))
        await asyncio.sleep(0)
    for _, register in asked:
        assert (await asyncio.wait_for(register.heard, 20)).outcome == Outcome.APPROVED
    await shop.drained()
    assert sorted(each for _, _, each in shop.headquarters.journal) == sorted(r.request_id for r, _ in asked)
    assert shop.headquarters.balances == {CARD.token: 10_000}


async def test_a_restart_goes_on_where_it_was(shop: Premises) -> None:
    requests = [earn() for _ in range(10)]
    for request in requests:
        await shop.ask(request)
    await shop.ask(reverse(requests[3]))
    await shop.reopen()
    await shop.drained()
    assert [each for _, _, each in shop.headquarters.journal][:10] == [each.request_id for each in requests]
    assert shop.headquarters.balances == {CARD.token: 900}


async def test_old_answers_are_forgotten_by_headquarters_time(shop: Premises) -> None:
    request = earn()
    await shop.ask(request)
    await shop.drained()
    assert request.request_id in shop.store.known
    shop.headquarters.now_ms += 31 * DAY_MS
    shop.backlog._forgot_at = float("-inf")
    shop.line.up = False
    await shop.backlog._turn()
    assert request.request_id in shop.store.known, "alone it cannot know the time well enough"
    shop.line.up = True
    await shop.backlog._turn()
    assert not shop.store.known


async def test_one_that_gets_no_answer_does_not_hold_up_those_of_other_cards(shop: Premises) -> None:
    lost = earn()
    for request in (lost, *(earn(card=type(CARD)(4, f"+4915112345{n:02}")) for n in range(40))):
        await shop.ask(request)
    answer, never = shop.line.ask, asyncio.Event()

    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        if request_of(item).request_id == lost.request_id:
            await never.wait()
        return await answer(item, timeout_s)

    shop.line.ask = ask  # type: ignore[method-assign]
    shop.line.up = True
    shop.start(shop.backlog.run())
    async with asyncio.timeout(20):
        while len(shop.store.queued) > 1:
            await asyncio.sleep(0.005)
    assert list(shop.store.queued) == [lost.request_id]


def _cards(count: int) -> list[Any]:
    return [type(CARD)(4, f"+49151123{number:04}") for number in range(count)]


async def test_the_next_go_when_all_that_is_under_way_is_answered(shop: Premises) -> None:
    now = [shop.backlog._counted_at]
    shop.backlog._monotonic_s = lambda: now[0]
    shop.line.limits = LIMITS._replace(backlog_per_s_max=20, backlog_in_flight_max=100)
    held: list[tuple[RequestItem, asyncio.Future[ReplyItem]]] = []

    def post(item: RequestItem, timeout_s: float) -> asyncio.Future[ReplyItem]:
        held.append((item, asyncio.get_running_loop().create_future()))
        return held[-1][1]

    shop.line.post = post  # type: ignore[method-assign]
    for one in _cards(30):
        await shop.ask(earn(card=one))
    shop.line.up = True
    await shop.backlog._turn()
    now[0] += 1.0
    assert await shop.backlog._turn() == backlog._STALL_S
    assert len(held) == 10
    now[0] += 0.5
    for item, reply in held[1:10]:
        reply.set_result(shop.headquarters.answer(item))
    await asyncio.sleep(0.01)
    assert 0 < await shop.backlog._turn() < backlog._STALL_S
    assert len(held) == 10
    # One that gets no answer holds the others up for a moment, not until it is given up.
    now[0] += backlog._STALL_S
    await shop.backlog._turn()
    assert len(held) == 20


async def test_a_publication_that_is_refused_as_a_whole_is_one_refusal(shop: Premises) -> None:
    began_s = shop.backlog._counted_at
    now, sent = [began_s], Counter[float]()

    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        sent[round(now[0] - began_s, 1)] += 1
        return ReplyItem(item.terminal, error_frame(request_of(item).request_id, int(ErrorCode.BUSY), "", 200)[4:])

    shop.line.ask = ask  # type: ignore[method-assign]
    shop.backlog._monotonic_s = lambda: now[0]
    shop.random.uniform = lambda low, high: high  # type: ignore[method-assign]
    shop.line.limits = LIMITS._replace(backlog_in_flight_max=100)
    for one in _cards(40):
        await shop.ask(earn(card=one))
    shop.line.up = True
    for tick in range(30):
        now[0] = began_s + tick / 10
        await shop.backlog._turn()
        await asyncio.gather(*shop.backlog._under_way)
        await asyncio.sleep(0)
    # 0.2 s as headquarters said, and 0.2, 0.4, 0.8 s of its own after the first, second and third refusal.
    assert sorted(sent.items()) == [(0.1, 40), (0.5, 40), (1.1, 40), (2.1, 40)]
    assert not shop.backlog._waiting


async def test_what_takes_too_long_is_sent_again(shop: Premises) -> None:
    limits_s: list[float] = []
    answer = shop.line.ask

    async def ask(item: RequestItem, timeout_s: float) -> ReplyItem:
        limits_s.append(timeout_s)
        return await answer(item, timeout_s)

    shop.line.ask = ask  # type: ignore[method-assign]
    for one in _cards(20):
        await shop.ask(earn(card=one))
    await shop.drained()
    await shop.ask(earn())
    shop.line.up = False
    await shop.ask(earn(card=SECOND))
    await shop.drained()
    assert limits_s[0] == patience.LONGEST_S
    assert limits_s[-1] == patience.SHORTEST_S


class Publications:
    """What the backlog sends each minute; a test answers it a hundredth of a second later."""

    def __init__(self, shop: Premises) -> None:
        self._shop = shop
        self._now = shop.backlog._counted_at
        self._sent: list[tuple[RequestItem, asyncio.Future[ReplyItem]]] = []
        self.limit_s = 0.0
        shop.backlog._monotonic_s = lambda: self._now
        shop.line.limits = LIMITS._replace(backlog_in_flight_max=100)
        shop.line.post = self._post  # type: ignore[method-assign]

    def _post(self, item: RequestItem, timeout_s: float) -> asyncio.Future[ReplyItem]:
        self.limit_s = timeout_s
        self._sent.append((item, asyncio.get_running_loop().create_future()))
        return self._sent[-1][1]

    async def next(self, count: int) -> list[tuple[RequestItem, asyncio.Future[ReplyItem]]]:
        await asyncio.sleep(0.01)
        self._sent = []
        self._now += 60.0
        await self._shop.backlog._turn()
        self._now += 0.01
        assert len(self._sent) == count
        return self._sent


async def test_what_is_refused_says_nothing_of_how_long_an_answer_takes(shop: Premises) -> None:
    sending = Publications(shop)
    for one in _cards(10):
        await shop.ask(earn(card=one))
    shop.line.up = True
    for code in (ErrorCode.BUSY, ErrorCode.UNAVAILABLE):
        for item, reply in await sending.next(10):
            reply.set_result(ReplyItem(item.terminal, error_frame(request_of(item).request_id, int(code), "", 1)[4:]))
        assert sending.limit_s == patience.LONGEST_S
    await sending.next(10)
    assert sending.limit_s == patience.LONGEST_S


async def test_each_publication_without_answers_doubles_what_the_next_one_is_waited_for(shop: Premises) -> None:
    sending = Publications(shop)
    shop.backlog._patience.took(0.01)
    for one in _cards(10):
        await shop.ask(earn(card=one))
    shop.line.up = True
    for factor in (1, 2, 4):
        for _, reply in await sending.next(10):
            reply.set_exception(NoReply())
        assert sending.limit_s == factor * patience.SHORTEST_S


async def test_when_headquarters_allows_fewer_than_are_under_way_nothing_is_sent(shop: Premises) -> None:
    sending = Publications(shop)
    for one in _cards(20):
        await shop.ask(earn(card=one))
    shop.line.limits = LIMITS._replace(backlog_in_flight_max=10)
    shop.line.up = True
    some = await sending.next(10)
    for fewer in (10, 4):
        shop.line.limits = LIMITS._replace(backlog_in_flight_max=fewer)
        await sending.next(0)
    assert shop.backlog.sent == 10
    for item, reply in some[:7]:
        reply.set_result(shop.headquarters.answer(item))
    await sending.next(1)
    assert shop.backlog.sent == 11
