"""What a relay approved while it was alone is booked by the time of sale, once, and can be reversed."""

from protocol.codes import Outcome
from protocol.requests import BalanceRequest, EarnRequest, ReverseRequest, SaleRequest
from tests.rigs.advices_rig import DAY_MS, HOUR_MS, NOW_MS, available, hq
from tests.rigs.relay_rig import Headquarters, approved, card, declined, earn, new_id, receipt

__all__ = ["hq"]


async def test_an_earn_counts_by_its_time_of_sale_however_late(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        before = earn(0)
        assert approved(await relay.ask(before, sale_ms=NOW_MS - 2 * DAY_MS)).answer.earned == 5_000
        after = earn(1)
        assert approved(await relay.ask(after, sale_ms=NOW_MS - HOUR_MS)).answer.earned == 9_000
        assert await available(relay, 0) == 5_000
        assert await available(relay, 1) == 0
        entry = (await hq.journal(0))[0]
        assert (entry["sale_ms"], entry["code"]) == (NOW_MS - 2 * DAY_MS, "T-0")


async def test_an_old_advice_is_not_expired_by_having_been_long_on_its_way(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        request.ttl_ms = 100
        relay.publish([relay.item(request, sale_ms=NOW_MS - HOUR_MS)], sent_ago_ms=50_000)
        approved(await relay.reply(request.request_id))


async def test_a_relay_whose_clock_is_far_ahead_sold_now(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        assert approved(await relay.ask(request, sale_ms=NOW_MS + 90 * DAY_MS)).answer.earned == 9_000
        assert abs((await hq.journal(0))[0]["sale_ms"] - NOW_MS) < HOUR_MS


async def test_the_registers_own_time_of_an_offline_earn_counts(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = EarnRequest(new_id(), 0, card(0), receipt(100_000), None, NOW_MS - 2 * DAY_MS, offline=True)
        assert approved(await relay.ask(request, sale_ms=NOW_MS)).answer.earned == 5_000


async def test_a_sale_without_points_counts_by_its_time_too(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        sale = SaleRequest(new_id(), 0, card(0), receipt(100_000))
        assert approved(await relay.ask(sale, sale_ms=NOW_MS - 2 * DAY_MS)).answer.earned == 5_000
        assert await available(relay) == 5_000


async def test_an_advice_of_what_was_executed_live_is_a_replay(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        first = approved(await relay.ask(request))
        again = approved(await relay.ask(request, sale_ms=NOW_MS - 2 * DAY_MS))
        assert (again.replayed, again.body) == (True, first.body)
        assert len(await hq.journal(0)) == 1


async def test_a_reversal_of_an_advice_works_after_it_and_before_it(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn(0)
        approved(await relay.ask(request, sale_ms=NOW_MS))
        approved(await relay.ask(ReverseRequest(new_id(), 0, card(0), request.request_id), sale_ms=NOW_MS))
        overtaken = earn(1)
        approved(await relay.ask(ReverseRequest(new_id(), 0, card(1), overtaken.request_id), sale_ms=NOW_MS))
        assert declined(await relay.ask(overtaken, sale_ms=NOW_MS)) == Outcome.REVERSED
        for number in (0, 1):
            left = approved(await relay.ask(BalanceRequest(new_id(), 0, card(number)))).answer.balance
            assert left is not None
            assert (left.available, left.pending) == (0, 0)
        assert [row["outcome"] for row in await hq.conflicts()] == [Outcome.REVERSED]
