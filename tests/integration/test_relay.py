"""A register behind a relay, a real broker, the bridge and the ledger: what it hears on line, off line, and after."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.clock import SystemClock
from ledger.registry import terminals
from protocol.client import Client
from protocol.codes import BlockReason, ErrorCode, Goodbye, Outcome, StatusState
from protocol.messages import AnswerMessage, ErrorMessage
from protocol.requests import (
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReplaceRequest,
    Request,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from protocol.session import Farewell, Welcome
from server.engines.broker import EmbeddedBroker
from tests.rigs.certificates import certificate
from tests.rigs.shop_rig import (
    CARDS,
    RECEIPT,
    SECRET,
    Counter,
    Headquarters,
    Shop,
    card,
    credentials_of,
    earn,
    error,
    new_id,
    outcome,
    redeem,
    until,
)

DAY_S = 86_400


# On line.

Step = Callable[[Card, Card, dict[str, bytes]], Request]


def _same_day(number: int) -> list[Step]:
    """Return one day of a card: every operation, approved, declined, repeated, with another content, and nonsense."""
    one: dict[str, bytes] = {}

    def named(name: str) -> bytes:
        return one.setdefault(name, new_id())

    other = Receipt(10_000, "USD", "1")
    return [
        lambda a, b, ids: BalanceRequest(new_id(), 0, a),
        lambda a, b, ids: earn(a, 10_000, named("earn")),
        lambda a, b, ids: earn(a, 10_000, named("earn")),
        lambda a, b, ids: earn(a, 9_999, named("earn")),
        lambda a, b, ids: redeem(a, 1_000, named("redeem")),
        lambda a, b, ids: redeem(a, 1_000, named("redeem")),
        lambda a, b, ids: redeem(a, 50_000),
        lambda a, b, ids: redeem(a, 50_000, allow_partial=True),
        lambda a, b, ids: earn(a, 10_000),
        lambda a, b, ids: RedeemRequest(new_id(), 0, a, 5, other),
        lambda a, b, ids: redeem(Card(a.kind, "2000000000000"), 5),
        lambda a, b, ids: redeem(a, 10**11),
        lambda a, b, ids: HoldRequest(named("hold"), 0, a, 500, RECEIPT),
        lambda a, b, ids: StatusRequest(new_id(), 0, a, named("hold")),
        lambda a, b, ids: CaptureRequest(named("capture"), 0, a, named("hold"), 300, RECEIPT),
        lambda a, b, ids: CaptureRequest(new_id(), 0, a, named("hold"), 300, RECEIPT),
        lambda a, b, ids: HoldRequest(named("hold 2"), 0, a, 500, RECEIPT),
        lambda a, b, ids: ReleaseRequest(new_id(), 0, a, named("hold 2")),
        lambda a, b, ids: SaleRequest(named("sale"), 0, a, RECEIPT, 200),
        lambda a, b, ids: SaleRequest(new_id(), 0, a, RECEIPT),
        lambda a, b, ids: RefundRequest(new_id(), 0, a, named("redeem"), Receipt(0, "EUR", "r")),
        lambda a, b, ids: StatusRequest(new_id(), 0, a, named("redeem")),
        lambda a, b, ids: ReverseRequest(new_id(), 0, a, named("sale")),
        lambda a, b, ids: StatusRequest(new_id(), 0, a, named("sale")),
        lambda a, b, ids: StatusRequest(new_id(), 0, a, new_id()),
        lambda a, b, ids: ReverseRequest(new_id(), 0, a, named("never came")),
        lambda a, b, ids: redeem(a, 10, named("never came")),
        lambda a, b, ids: BalanceRequest(new_id(), 0, b),
        lambda a, b, ids: ActivateRequest(new_id(), 0, b),
        lambda a, b, ids: BlockRequest(new_id(), 0, a, BlockReason.LOST),
        lambda a, b, ids: redeem(a, 10),
        lambda a, b, ids: ReplaceRequest(new_id(), 0, a, b),
        lambda a, b, ids: BalanceRequest(new_id(), 0, a),
    ]


def _shown(message: AnswerMessage | ErrorMessage, request: Request) -> object:
    if isinstance(message, ErrorMessage):
        return (message.code, message.text, message.retry_after_ms)
    if isinstance(request, HoldRequest | StatusRequest):
        # The end of a hold is a moment, and the two days are not lived in the same one.
        return (message.replayed, message.answer.outcome, message.answer.points, message.answer.balance)
    return (message.replayed, message.body)


async def test_every_operation_gets_the_same_bytes_through_the_relay_as_over_tcp(
    headquarters: Headquarters, shop: Shop, counter: Counter
) -> None:
    direct, relayed = await counter.till(headquarters.port, "T-0"), await counter.till(shop.port, "T-1")
    answers = []
    for till, first, second in ((direct, 0, CARDS), (relayed, 1, CARDS + 1)):
        told = []
        for step in _same_day(first):
            request = step(card(first), card(second), {})
            told.append(_shown(await till.ask(request), request))
        answers.append(told)
    assert answers[0] == answers[1]
    assert len({type(shown) for shown in answers[0]}) == 1


async def test_the_relay_tells_a_register_the_profile_and_the_time_of_headquarters(
    headquarters: Headquarters, shop: Shop, counter: Counter
) -> None:
    welcomes = []
    for port in (headquarters.port, shop.port):
        welcome = await (await counter.connect(port)).sign_on()
        assert isinstance(welcome, Welcome)
        welcomes.append(welcome)
    assert welcomes[0].profile == welcomes[1].profile
    assert abs(welcomes[0].server_time_ms - welcomes[1].server_time_ms) < 60_000


async def test_who_is_suspended_or_has_a_new_secret_at_headquarters_is_sent_away_by_the_relay(
    headquarters: Headquarters, shop: Shop, counter: Counter
) -> None:
    suspended, renewed, untouched = [await counter.till(shop.port, f"T-{number}") for number in range(3)]
    async with headquarters.database() as connection, connection.transaction():
        terminal_id = await connection.fetchval("SELECT terminal_id FROM terminal WHERE code = 'T-0'")
        assert await terminals.set_active(connection, [terminal_id], active=False)
        assert await terminals.renew(connection, "T-1", credentials_of("another-secret-entirely"))
    assert (await suspended.farewell()).reason == Goodbye.SUSPENDED
    assert (await renewed.farewell()).reason == Goodbye.AUTH_FAILED
    assert outcome(await untouched.ask(BalanceRequest(new_id(), 0, card(0)))) == Outcome.APPROVED
    refused = await (await counter.connect(shop.port, "T-0")).sign_on()
    assert isinstance(refused, Farewell)
    assert refused.reason == Goodbye.SUSPENDED
    assert isinstance(await (await counter.connect(shop.port, "T-1")).sign_on("another-secret-entirely"), Welcome)
    stranger = await (await counter.connect(shop.port, "T-9")).sign_on()
    assert isinstance(stranger, Farewell)
    assert stranger.reason == Goodbye.AUTH_FAILED


async def test_registers_speak_tls_to_a_relay_that_has_a_certificate(
    headquarters: Headquarters, tmp_path: Path
) -> None:
    cert_file, key_file = certificate(tmp_path, "relay")
    trusting = ssl.create_default_context(cafile=str(cert_file))
    async with Shop(headquarters, tmp_path / "relay", tls_cert_file=cert_file, tls_key_file=key_file) as shop:
        await shop.until_up()
        async with Client("localhost", shop.port, "T-0", SECRET, tls=trusting) as client:
            assert (await client.earn(card(0), RECEIPT)).earned == 10_000


# Off line.


async def test_off_line_the_relay_takes_advices_declines_the_rest_and_tells_headquarters_afterwards(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    till = await counter.till(shop.port)
    first = earn(card(0))
    assert outcome(await till.ask(first)) == Outcome.APPROVED
    assert outcome(await till.ask(BalanceRequest(new_id(), 0, card(0)))) == Outcome.APPROVED
    own_mosquitto.kill()
    await shop.until_down()
    earned, sold = earn(card(0), 2_000), SaleRequest(new_id(), 0, card(0), RECEIPT)
    taken_back = earn(card(1), 5_000)
    reversal = ReverseRequest(new_id(), 0, card(1), taken_back.request_id)
    for advice in (earned, sold, taken_back, reversal):
        answer = await till.ask(advice)
        assert isinstance(answer, AnswerMessage)
        assert (answer.answer.outcome, answer.answer.earned, answer.answer.balance) == (Outcome.APPROVED, 0, None)
        again = await till.ask(advice)
        assert isinstance(again, AnswerMessage)
        assert (again.replayed, again.body) == (True, answer.body)
    assert error(await till.ask(earn(card(0), 2_001, earned.request_id))) == ErrorCode.ID_REUSED
    balance = await till.ask(BalanceRequest(new_id(), 0, card(0)))
    assert isinstance(balance, AnswerMessage)
    assert balance.answer.balance is not None
    assert (balance.answer.balance.available, balance.answer.provisional) == (10_000, True)
    for request in (
        BalanceRequest(new_id(), 0, card(7)),
        redeem(card(0), 10),
        SaleRequest(new_id(), 0, card(0), RECEIPT, 10),
        HoldRequest(new_id(), 0, card(0), 10, RECEIPT),
        ActivateRequest(new_id(), 0, card(CARDS)),
    ):
        assert outcome(await till.ask(request)) == Outcome.OFFLINE
    status = await till.ask(StatusRequest(new_id(), 0, card(1), taken_back.request_id))
    assert isinstance(status, AnswerMessage)
    assert status.answer.status == StatusState.REVERSED
    assert await headquarters.journal([earned.request_id]) == {earned.request_id: 0}
    own_mosquitto.start()
    await shop.until_up()
    await shop.until_drained()
    advices = (first, earned, sold, taken_back, reversal)
    assert set((await headquarters.journal([advice.request_id for advice in advices])).values()) == {1}
    balances = [await till.ask(BalanceRequest(new_id(), 0, card(number))) for number in (0, 1)]
    assert [message.answer.balance.available for message in balances] == [22_000, 0]  # type: ignore[union-attr]
    # The first answer stays, also when headquarters could give another one.
    again = await till.ask(earned)
    assert isinstance(again, AnswerMessage)
    assert (again.replayed, again.answer.earned) == (True, 0)


async def test_what_headquarters_declines_afterwards_is_on_both_lists_of_conflicts(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    till = await counter.till(shop.port)
    own_mosquitto.kill()
    await shop.until_down()
    never_issued = earn(card(5_000))
    assert outcome(await till.ask(never_issued)) == Outcome.APPROVED
    own_mosquitto.start()
    await shop.until_drained()
    assert shop.running.store.conflicts == 1
    (conflict,) = await shop.running.store.listed_conflicts(10)
    assert (conflict.request_id, conflict.outcome) == (never_issued.request_id, Outcome.UNKNOWN_CARD)
    async with headquarters.database() as connection:
        (row,) = await connection.fetch("SELECT request_id, outcome FROM office.conflict")
    assert tuple(row) == (never_issued.request_id, Outcome.UNKNOWN_CARD)


async def test_a_restarted_relay_lets_registers_it_knows_sign_on_and_keeps_its_queue_while_headquarters_is_away(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    till = await counter.till(shop.port)
    own_mosquitto.kill()
    await shop.until_down()
    before = earn(card(0))
    assert outcome(await till.ask(before)) == Outcome.APPROVED
    await shop.stop()
    await shop.start()
    till = await counter.till(shop.port)
    again = await till.ask(before)
    assert isinstance(again, AnswerMessage)
    assert again.replayed
    after = earn(card(0))
    assert outcome(await till.ask(after)) == Outcome.APPROVED
    assert outcome(await till.ask(redeem(card(0), 5))) == Outcome.OFFLINE
    own_mosquitto.start()
    await shop.until_drained()
    assert await headquarters.journal([before.request_id, after.request_id]) == {
        before.request_id: 1,
        after.request_id: 1,
    }


async def test_a_relay_that_never_heard_from_headquarters_lets_nobody_in_and_then_everybody(
    headquarters: Headquarters, counter: Counter, own_mosquitto: EmbeddedBroker, tmp_path: Path
) -> None:
    own_mosquitto.kill()
    async with Shop(headquarters, tmp_path / "relay") as shop:
        refused = await (await counter.connect(shop.port)).sign_on()
        assert isinstance(refused, Farewell)
        assert refused.reason == Goodbye.BUSY
        assert refused.reconnect_after_ms > 0
        own_mosquitto.start()
        await shop.until_up()
        till = await counter.till(shop.port)
        assert outcome(await till.ask(earn(card(0)))) == Outcome.APPROVED


async def test_headquarters_restarted_is_asked_again_for_what_it_had_not_answered(
    headquarters: Headquarters, shop: Shop, counter: Counter
) -> None:
    client = await counter.client(shop.port)
    await client.earn(card(0), RECEIPT)
    asked: list[bytes] = []

    async def spend() -> None:
        for _ in range(20):
            request_id = new_id()
            asked.append(request_id)
            reply = await client.redeem(card(0), 10, RECEIPT, request_id=request_id)
            assert reply.outcome in (Outcome.APPROVED, Outcome.OFFLINE, Outcome.REVERSED)
            await asyncio.sleep(0.02)

    spending = asyncio.create_task(spend())
    await until(lambda: len(asked) > 4)
    await headquarters.stop()
    await headquarters.start()
    await spending
    assert max((await headquarters.journal(asked)).values()) == 1


async def test_a_reserved_allowance_is_spent_off_line_once_and_booked_afterwards(
    postgres_url: str, valkey_url: str, own_mosquitto: EmbeddedBroker, counter: Counter, tmp_path: Path
) -> None:
    headquarters = Headquarters(postgres_url, valkey_url, own_mosquitto.url, tmp_path / "headquarters")
    (tmp_path / "headquarters").mkdir()
    await headquarters.prepare(allowance_points=500)
    await headquarters.start()
    try:
        async with Shop(headquarters, tmp_path / "relay") as shop:
            await _spend_an_allowance(headquarters, shop, counter, own_mosquitto)
    finally:
        await headquarters.stop()
    await headquarters.verify()


async def _spend_an_allowance(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    await shop.until_up()
    till = await counter.till(shop.port)
    assert outcome(await till.ask(earn(card(0)))) == Outcome.APPROVED
    held = 0
    while not held:
        balance = await till.ask(BalanceRequest(new_id(), 0, card(0)))
        assert isinstance(balance, AnswerMessage)
        assert balance.answer.balance is not None
        held = balance.answer.balance.held
    assert held == 500
    own_mosquitto.kill()
    await shop.until_down()
    assert outcome(await till.ask(redeem(card(0), 501))) == Outcome.OFFLINE
    spent = redeem(card(0), 300)
    assert outcome(await till.ask(spent)) == Outcome.APPROVED
    assert outcome(await till.ask(redeem(card(0), 100))) == Outcome.OFFLINE
    own_mosquitto.start()
    await shop.until_drained()
    assert await headquarters.journal([spent.request_id]) == {spent.request_id: 1}
    direct = await counter.till(headquarters.port, "T-1")
    balance = await direct.ask(BalanceRequest(new_id(), 0, card(0)))
    assert isinstance(balance, AnswerMessage)
    assert balance.answer.balance is not None
    assert balance.answer.balance.available + balance.answer.balance.held == 9_700


# The clock.


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_relay_whose_clock_is_a_day_off_goes_by_headquarters_time(
    headquarters: Headquarters, counter: Counter, own_mosquitto: EmbeddedBroker, tmp_path: Path, days: int
) -> None:
    clock = OffClock(days * DAY_S * 1_000)
    async with Shop(headquarters, tmp_path / "relay", clock=clock) as shop:
        await shop.until_up()
        welcome = await (await counter.connect(shop.port)).sign_on()
        assert isinstance(welcome, Welcome)
        assert abs(welcome.server_time_ms - SystemClock().now_ms()) < 60_000
        till = await counter.till(shop.port)
        assert outcome(await till.ask(redeem(card(0), 5))) == Outcome.INSUFFICIENT
        await shop.stop()
        own_mosquitto.kill()
        # What was learnt of headquarters' clock holds after a restart without it.
        await shop.start()
        till = await counter.till(shop.port)
        sold = SaleRequest(new_id(), 0, card(0), RECEIPT)
        assert outcome(await till.ask(sold)) == Outcome.APPROVED
        (taken_ms,) = shop.running.store.queued.values()
        assert abs(taken_ms - SystemClock().now_ms()) < 60_000
        own_mosquitto.start()
        await shop.until_drained()
        assert shop.running.store.conflicts == 0
        assert await headquarters.journal([sold.request_id]) == {sold.request_id: 1}


class OffClock(SystemClock):
    """A wall clock that is wrong."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


async def test_what_is_sold_by_a_relay_whose_clock_forgot_the_time_is_not_worthless(
    headquarters: Headquarters, counter: Counter, own_mosquitto: EmbeddedBroker, tmp_path: Path
) -> None:
    clock = OffClock(0)
    async with Shop(headquarters, tmp_path / "relay", clock=clock) as shop:
        await shop.until_up()
        await shop.stop()
        own_mosquitto.kill()
        # The battery of its clock is empty.
        clock.ahead_ms = -50 * 365 * DAY_S * 1_000
        await shop.start()
        assert shop.running.line.server_now_ms() is None
        till = await counter.till(shop.port)
        sold = SaleRequest(new_id(), 0, card(0), RECEIPT)
        assert outcome(await till.ask(sold)) == Outcome.APPROVED
        (taken_ms,) = shop.running.store.queued.values()
        assert abs(taken_ms - SystemClock().now_ms()) < 60_000
        own_mosquitto.start()
        await shop.until_drained()
        assert await headquarters.journal([sold.request_id]) == {sold.request_id: 1}


async def test_registers_are_told_the_time_anew_when_it_turns_out_to_have_been_wrong(
    headquarters: Headquarters, counter: Counter, own_mosquitto: EmbeddedBroker, tmp_path: Path
) -> None:
    clock = OffClock(0)
    async with Shop(headquarters, tmp_path / "relay", clock=clock) as shop:
        await shop.until_up()
        await shop.stop()
        own_mosquitto.kill()
        # Set ahead it cannot be told from a long night.
        clock.ahead_ms = 365 * DAY_S * 1_000
        await shop.start()
        client = await counter.client(shop.port)
        await until(lambda: client.connected)
        assert client.server_now_ms() > SystemClock().now_ms() + DAY_S * 1_000
        own_mosquitto.start()
        await shop.until_up()
        await until(lambda: client.connected and abs(client.server_now_ms() - SystemClock().now_ms()) < 60_000)
        assert (await client.earn(card(0), RECEIPT)).earned == 10_000
