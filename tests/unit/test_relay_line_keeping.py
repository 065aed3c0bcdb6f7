"""The relay's line: what it asks again, what it calls doubt, and when it says that it is down."""

import asyncio
import os

import pytest

from protocol.codes import ErrorCode
from protocol.messages import ErrorMessage, decode
from protocol.relay_messages import Hint, Roster
from server.relay import line_greeting
from server.relay.asking import LineDown, NoReply
from server.relay.line import LineSettings
from tests.rigs.line_rig import (
    LIMITS,
    PATIENT,
    PROMPT,
    LineRig,
    approval,
    balance,
    decline,
    error,
    redeem,
    until,
)


async def answered(rig: LineRig, index: int) -> None:
    await until(lambda: len(rig.asked) > index)
    rig.say(approval(rig.asked[index]))


async def test_a_lone_request_goes_out_at_once_and_its_answer_comes_back_byte_for_byte() -> None:
    async with LineRig() as rig:
        item = redeem()
        asking = asyncio.ensure_future(rig.line.ask(item, 10))
        await until(lambda: bool(rig.asked))
        assert rig.publications == [[item]]
        rig.say(approval(item))
        assert await asking == approval(item)


async def test_what_gathers_in_one_turn_of_the_loop_goes_in_one_publication() -> None:
    async with LineRig() as rig:
        items = [redeem() for _ in range(5)]
        asking = [asyncio.ensure_future(rig.line.ask(item, 10)) for item in items]
        await until(lambda: bool(rig.asked))
        assert rig.publications == [items]
        rig.say(*[approval(item) for item in reversed(items)])
        assert await asyncio.gather(*asking) == [approval(item) for item in items]


async def test_limits_bound_what_is_under_way_and_live_requests_go_before_the_backlog() -> None:
    async with LineRig() as rig:
        backlog = [redeem(sale_ms=1) for _ in range(6)]
        asking = [asyncio.ensure_future(rig.line.ask(item, 10)) for item in backlog]
        await until(lambda: bool(rig.asked))
        assert rig.asked == backlog[: LIMITS.backlog_in_flight_max]
        live = [redeem() for _ in range(6)]
        asking += [asyncio.ensure_future(rig.line.ask(item, 10)) for item in live]
        await until(lambda: len(rig.asked) == LIMITS.in_flight_max)
        assert rig.asked[3:] == live[:5]
        rig.say(approval(backlog[0]))
        await until(lambda: len(rig.asked) == 9)
        assert rig.asked[8] == live[5]
        for index in range(12):
            await answered(rig, index)
        await asyncio.gather(*asking)


async def test_while_publications_are_not_acknowledged_requests_gather_in_one() -> None:
    async with LineRig(LineSettings(publications_under_way_max=1, silence_ms=60_000)) as rig:
        rig.acknowledging = False
        first = asyncio.ensure_future(rig.line.ask(redeem(), 10))
        await until(lambda: len(rig.publications) == 1)
        later = []
        for _ in range(4):
            later.append(asyncio.ensure_future(rig.line.ask(redeem(), 10)))
            await asyncio.sleep(0.005)
        assert len(rig.publications) == 1
        rig.acknowledge()
        await until(lambda: len(rig.publications) == 2)
        assert len(rig.publications[1]) == 4
        for index in range(5):
            await answered(rig, index)
        await asyncio.gather(first, *later)


async def test_requests_past_the_queue_are_told_busy() -> None:
    async with LineRig(
        LineSettings(waiting_requests_max=2, silence_ms=60_000), LIMITS._replace(in_flight_max=1)
    ) as rig:
        waiting = [asyncio.ensure_future(rig.line.ask(redeem(), 10))]
        await until(lambda: bool(rig.asked))
        waiting += [asyncio.ensure_future(rig.line.ask(redeem(), 10)) for _ in range(2)]
        await until(lambda: rig.line.health()["waiting"] == 2)
        refused = decode((await rig.line.ask(redeem(), 10)).message)
        assert isinstance(refused, ErrorMessage)
        assert refused.code == ErrorCode.BUSY
        assert refused.retry_after_ms > 0
        for index in range(3):
            await answered(rig, index)
        await asyncio.gather(*waiting)


async def test_a_second_request_under_the_same_id_waits_for_the_answer_of_the_first() -> None:
    async with LineRig() as rig:
        request_id = os.urandom(16)
        first, second = redeem(request_id), redeem(request_id)
        asking = [asyncio.ensure_future(rig.line.ask(item, 10)) for item in (first, second)]
        await until(lambda: len(rig.asked) == 1)
        rig.say(approval(first))
        await until(lambda: len(rig.asked) == 2)
        rig.say(decline(second))
        assert await asyncio.gather(*asking) == [approval(first), decline(second)]


async def test_no_answer_in_time_is_doubt() -> None:
    async with LineRig() as rig:
        with pytest.raises(NoReply):
            await rig.line.ask(redeem(), 0.05)
        assert len(rig.asked) == 1
        # Its answer comes later and is nobody's any more.
        rig.say(approval(rig.asked[0]))
        assert rig.line.health()["under_way"] == 0


async def test_what_could_not_be_sent_in_time_is_no_doubt() -> None:
    async with LineRig(limits=LIMITS._replace(in_flight_max=1)) as rig:
        first = asyncio.ensure_future(rig.line.ask(redeem(), 10))
        await until(lambda: bool(rig.asked))
        with pytest.raises(LineDown):
            await rig.line.ask(redeem(), 0.05)
        await answered(rig, 0)
        await first
        assert len(rig.asked) == 1


async def test_silence_begins_a_new_session_in_which_everything_unanswered_is_asked_again_in_order() -> None:
    async with LineRig(PROMPT) as rig:
        rig.silent = True
        items = [redeem() for _ in range(3)]
        asking = [asyncio.ensure_future(rig.line.ask(item, 10)) for item in items]
        await until(lambda: len(rig.asked) == 6)
        assert rig.asked == items + items
        rig.silent = False
        rig.say(*[approval(item) for item in items])
        assert await asyncio.gather(*asking) == [approval(item) for item in items]
        assert len(rig.hellos) > 1


async def test_a_slow_ledger_is_no_silence_as_long_as_reports_are_answered() -> None:
    async with LineRig(LineSettings(silence_ms=2_000)) as rig:
        asking = asyncio.ensure_future(rig.line.ask(redeem(), 20))
        await until(lambda: rig.reports > 4)
        assert (len(rig.hellos), len(rig.asked)) == (1, 1)
        await answered(rig, 0)
        await asking


async def test_a_decline_or_not_executed_of_a_second_copy_leaves_the_doubt_about_the_first() -> None:
    async with LineRig() as rig:
        replies = [decline, lambda item: error(item, ErrorCode.BUSY), lambda item: error(item, ErrorCode.EXPIRED)]
        items = [redeem() for _ in replies]
        asking = [asyncio.ensure_future(rig.line.ask(item, 10)) for item in items]
        await until(lambda: len(rig.asked) == 3)
        rig.disconnect()
        rig.connect()
        await until(lambda: len(rig.asked) == 6)
        rig.say(*[reply(item) for reply, item in zip(replies, items, strict=True)])
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [NoReply] * 3


async def test_an_approval_of_a_second_copy_and_any_answer_to_a_question_or_the_backlog_end_the_doubt() -> None:
    async with LineRig() as rig:
        items = [redeem(), balance(), redeem(sale_ms=1)]
        asking = [asyncio.ensure_future(rig.line.ask(item, 10)) for item in items]
        await until(lambda: len(rig.asked) == 3)
        rig.disconnect()
        rig.connect()
        await until(lambda: len(rig.asked) == 6)
        answers = [approval(items[0]), decline(items[1]), decline(items[2])]
        rig.say(*answers)
        assert await asyncio.gather(*asking) == answers


async def test_a_short_cut_is_waited_out() -> None:
    async with LineRig() as rig:
        rig.disconnect()
        assert rig.line.up
        item = redeem()
        asking = asyncio.ensure_future(rig.line.ask(item, 10))
        await asyncio.sleep(0.02)
        assert not rig.asked
        rig.connect()
        await answered(rig, 0)
        assert await asking == approval(item)
        # Only one copy left, so even a decline would have been believed.
        assert len(rig.asked) == 1


async def test_a_longer_cut_is_down_and_tells_the_unsent_at_once_and_the_sent_when_their_time_is_over() -> None:
    async with LineRig(PROMPT) as rig:
        sent = asyncio.ensure_future(rig.line.ask(redeem(), 1))
        await until(lambda: len(rig.asked) == 1)
        rig.disconnect()
        unsent = asyncio.ensure_future(rig.line.ask(redeem(), 30))
        with pytest.raises(LineDown):
            await unsent
        assert not sent.done()
        assert not rig.line.up
        with pytest.raises(LineDown):
            await rig.line.ask(redeem(), 30)
        with pytest.raises(NoReply):
            await sent
        assert rig.line.down_since_ms
        rig.connect()
        await until(lambda: rig.line.up)
        assert rig.came_up == 2


async def test_headquarters_that_hears_nothing_is_down() -> None:
    async with LineRig(PROMPT) as rig:
        rig.deaf = True
        asking = asyncio.ensure_future(rig.line.ask(redeem(), 10))
        await until(lambda: not rig.line.up)
        asking.cancel()


async def test_when_nobody_listens_to_the_session_a_new_one_is_begun_without_waiting_for_silence() -> None:
    async with LineRig() as rig:
        rig.unheard = True
        item = redeem()
        asking = asyncio.ensure_future(rig.line.ask(item, 10))
        await asyncio.sleep(0.05)
        rig.unheard = False
        await answered(rig, 0)
        assert await asking == approval(item)
        assert len(rig.hellos) == 2


async def test_that_nobody_hears_its_advices_takes_nothing_away_from_what_is_live() -> None:
    async with LineRig() as rig:
        rig.backlog_unheard = True
        advice = redeem(sale_ms=1)
        unheard = rig.line.post(advice, 0.3)
        await until(lambda: rig.topics[-1] == "b1.backlog")
        live = asyncio.ensure_future(rig.line.ask(redeem(), 10))
        await answered(rig, 0)
        await live
        with pytest.raises(NoReply):
            await unheard
        rig.backlog_unheard = False
        again = rig.line.post(advice, 10)
        await answered(rig, 1)
        assert await again == approval(advice)
        assert len(rig.hellos) == 1


async def test_a_forged_goodbye_costs_a_new_session_and_no_answer() -> None:
    async with LineRig() as rig:
        item = redeem()
        asking = asyncio.ensure_future(rig.line.ask(item, 10))
        await until(lambda: len(rig.asked) == 1)
        assert rig.session is not None
        rig.mute = True
        rig.goodbye(rig.session.session_id, Hint.UNKNOWN_SESSION)
        rig.goodbye(os.urandom(16), Hint.UNKNOWN_SESSION)
        await until(lambda: len(rig.hellos) == 2)
        assert rig.line.up
        rig.say(approval(item))
        assert await asking == approval(item)


async def test_a_refused_hello_is_said_again_later() -> None:
    rig = LineRig()
    rig.mute = True
    running = asyncio.create_task(rig.line.run())
    rig.connect()
    for said in (1, 2):
        await until(lambda said=said: len(rig.hellos) == said)
        rig.goodbye(rig.hellos[-1].relay_nonce, Hint.REFUSED)
        assert "REFUSED" in rig.line.health()["reason"]
    rig.mute = False
    await until(lambda: rig.line.up)
    running.cancel()


async def test_a_hello_that_nobody_answers_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_greeting, "_WELCOME_WAIT_S", (0.01, 0.01))
    rig = LineRig()
    rig.mute = True
    running = asyncio.create_task(rig.line.run())
    rig.connect()
    await until(lambda: "does not answer HELLO" in rig.line.health()["reason"])
    rig.mute = False
    await until(lambda: rig.line.up)
    assert rig.line.health()["reason"] == ""
    running.cancel()


async def test_a_hello_that_the_broker_refuses_is_told_of() -> None:
    rig = LineRig()
    rig.forbidden = rig.deaf = True
    running = asyncio.create_task(rig.line.run())
    rig.connect()
    await until(lambda: rig.line.health()["reason"] == "the broker does not pass HELLO on: not authorized")
    rig.forbidden = rig.deaf = False
    await until(lambda: rig.line.up)
    running.cancel()


async def test_a_line_that_is_down_says_what_keeps_it_down_now_and_not_what_it_was_lost_by() -> None:
    rig = LineRig()
    rig.disconnect()
    assert rig.line.health()["reason"] == "the broker is away: refused"
    async with LineRig(LineSettings(silence_ms=50, grace_ms=50)) as rig:
        rig.mute = rig.deaf = True
        asking = asyncio.ensure_future(rig.line.ask(redeem(), 10))
        await until(lambda: not rig.line.up)
        assert "silent" in rig.line.health()["reason"]
        rig.disconnect()
        assert rig.line.health()["reason"] == "the broker is away: refused"
        asking.cancel()


async def test_what_is_repeated_altered_or_of_an_earlier_session_changes_nothing() -> None:
    async with LineRig() as rig:
        old = redeem()
        asking = asyncio.ensure_future(rig.line.ask(old, 10))
        await answered(rig, 0)
        await asking
        welcome, answer = rig.sent_down[0], rig.sent_down[-1]
        item = redeem()
        asking = asyncio.ensure_future(rig.line.ask(item, 10))
        await until(lambda: len(rig.asked) == 2)
        for payload in (welcome, answer, answer[:-1] + bytes([answer[-1] ^ 1]), b"", b"\xc1", b"\x93\x03"):
            rig.down(payload)
        assert not asking.done()
        rig.say(approval(item))
        assert await asking == approval(item)
        assert len(rig.hellos) == 1


async def test_the_roster_is_asked_for_when_its_version_changes() -> None:
    async with LineRig() as rig:
        await until(lambda: bool(rig.queries))
        roster = Roster(7, "Shops", "EUR", 0, 0, ())
        rig.roster_version = 7
        asked = len(rig.queries)
        rig.say()
        await until(lambda: len(rig.queries) == asked + 1)
        rig.say(roster)
        assert rig.taken == [roster]
        rig.say()
        await asyncio.sleep(0.02)
        assert len(rig.queries) == asked + 1


async def test_headquarters_clock_is_known_and_followed_when_it_leaps() -> None:
    day_ms = 86_400_000
    rig = LineRig()
    rig.server_ahead_ms = day_ms
    async with rig:
        server_ms = rig.line.server_now_ms()
        assert server_ms is not None
        assert abs(server_ms - rig.now_ms()) < 60_000
        assert abs(rig.kept[-1].ahead_ms - day_ms) < 60_000
        rig.server_ahead_ms = 2 * day_ms
        rig.say()
        await until(lambda: abs(rig.kept[-1].ahead_ms - 2 * day_ms) < 60_000)


async def test_a_caller_that_goes_away_leaves_nothing_behind() -> None:
    async with LineRig(PATIENT) as rig:
        asking = asyncio.ensure_future(rig.line.ask(redeem(), 10))
        await until(lambda: len(rig.asked) == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        health = rig.line.health()
        assert (health["under_way"], health["waiting"]) == (0, 0)


async def test_what_is_posted_ends_like_what_is_asked() -> None:
    async with LineRig(limits=LIMITS._replace(in_flight_max=1)) as rig:
        first, second = rig.line.post(redeem(sale_ms=1), 0.6), rig.line.post(redeem(sale_ms=1), 0.05)
        await until(lambda: len(rig.asked) == 1)
        with pytest.raises(LineDown):
            await second
        with pytest.raises(NoReply):
            await first
        third = rig.line.post(redeem(sale_ms=1), 10)
        await answered(rig, 1)
        assert await third == approval(rig.asked[1])
        fourth = rig.line.post(redeem(sale_ms=1), 10)
        await until(lambda: len(rig.asked) == 3)
        fourth.cancel()
        await until(lambda: rig.line.health()["under_way"] == 0)


async def test_what_is_posted_while_the_line_is_down_is_told_so() -> None:
    async with LineRig(PROMPT) as rig:
        rig.disconnect()
        early = rig.line.post(redeem(sale_ms=1), 10)
        await until(lambda: not rig.line.up)
        for posted in (early, rig.line.post(redeem(sale_ms=1), 10)):
            with pytest.raises(LineDown):
                await posted
        await until(lambda: rig.line.health()["waiting"] == 0)


async def test_advices_go_to_a_topic_of_their_own_and_never_together_with_live_ones() -> None:
    async with LineRig() as rig:
        rig.topics.clear()
        live, advice = redeem(), redeem(sale_ms=1)
        asking = [rig.line.post(item, 10) for item in (advice, live)]
        await until(lambda: len(rig.asked) == 2)
        assert rig.publications == [[live], [advice]]
        assert rig.topics == ["b1", "b1.backlog"]
        rig.say(approval(live), approval(advice))
        await asyncio.gather(*asking)


async def test_a_late_decline_of_a_live_copy_is_not_headquarters_word_on_the_advice_that_followed() -> None:
    async with LineRig() as rig:
        live = redeem()
        with pytest.raises(NoReply):
            await rig.line.ask(live, 0.02)
        advice = live._replace(sale_ms=1)
        asking = asyncio.ensure_future(rig.line.ask(advice, 10))
        await until(lambda: len(rig.asked) == 2)
        # Of a live copy's decline nobody at headquarters is told; of the advice's, its people are.
        rig.say(decline(live))
        await asyncio.sleep(0.02)
        assert not asking.done()
        rig.say(error(advice, ErrorCode.ID_REUSED))
        assert await asking == error(advice, ErrorCode.ID_REUSED)


async def test_whoever_is_first_to_see_that_a_live_request_took_too_long_its_late_decline_is_known() -> None:
    async with LineRig() as rig:
        live = redeem()
        asking = asyncio.ensure_future(rig.line.ask(live, 0.02))
        await until(lambda: bool(rig.asked))
        # The loop is held up for so long that the line looks after its requests before the timer of this one.
        rig.line._look(rig.clock.monotonic_s() + 0.02)
        with pytest.raises(NoReply):
            await asking
        advice = live._replace(sale_ms=1)
        asking = asyncio.ensure_future(rig.line.ask(advice, 10))
        await until(lambda: len(rig.asked) == 2)
        rig.say(decline(live))
        await asyncio.sleep(0.02)
        assert not asking.done()
        rig.say(approval(advice))
        assert await asking == approval(advice)


async def test_a_late_approval_of_a_live_copy_settles_the_advice_that_followed() -> None:
    async with LineRig() as rig:
        live = redeem()
        with pytest.raises(NoReply):
            await rig.line.ask(live, 0.02)
        asking = asyncio.ensure_future(rig.line.ask(live._replace(sale_ms=1), 10))
        await until(lambda: len(rig.asked) == 2)
        rig.say(approval(live))
        assert await asking == approval(live)


async def test_a_new_session_has_no_late_answers() -> None:
    async with LineRig(PROMPT) as rig:
        rig.silent = True
        live = redeem()
        with pytest.raises(NoReply):
            await rig.line.ask(live, 0.02)
        asking = asyncio.ensure_future(rig.line.ask(live._replace(sale_ms=1), 10))
        await until(lambda: len(rig.asked) == 3)
        rig.silent = False
        rig.say(decline(live))
        assert await asking == decline(live)
