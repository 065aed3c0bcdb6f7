"""What a preview says is what a register is then answered: held against the server's own way to a decision."""

import asyncio
import os
import random
from dataclasses import replace
from typing import Any

import pytest

from admin_api.cards.card_numbers import ean13_numbers, new_card
from admin_api.coalition.terminal_secrets import new_secret
from admin_api.programme.rules_preview import Effect, Example, effect
from admin_api.security.permissions import Permission
from ledger.clock import SystemClock
from ledger.journal.onboarding import onboarding
from ledger.operations import Outcome
from ledger.programme import Programme, Rules, Terminal
from ledger.rules_check import BadRules, check
from protocol.answers import Answer
from protocol.codes import CardKind, Message
from protocol.requests import Card, Receipt, SaleRequest
from server.observation.metrics import Metrics
from server.registers.answers import AnswerRenderer
from server.registers.dispatch import Dispatcher, DispatchLimits, Moment
from server.registers.pending import Pending
from server.registers.terminal_room import TerminalRoom
from tests.rigs.office_rig import TOKEN_KEY, OfficeRig

CASES = int(os.environ.get("TILLWIRE_PROPERTY_CASES", "300"))
PATH = "/v1/networks/1/rules/preview"
SLIP = (
    "Spent {spent}", "Earned {earned}", "Left {available}", "Held {held}", "Soon {pending}", "Owed {owed}",
    "{expiring} expire on {expiring_on}", "Thank you",
)  # fmt: skip
LIMITS = DispatchLimits(
    ttl_default_ms=5_000, ttl_max_ms=60_000, advice_future_max_ms=600_000, amount_max=10**11, busy_retry_after_ms=100
)


class Register:
    """Waits for the answer to one sale."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        self.answered.set_result(Answer.from_body(body))

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        self.answered.set_exception(AssertionError(f"{code}: {text}"))


class Till:
    """Sends sales the way that a connection does, each from a terminal that has spent nothing today."""

    def __init__(self, rig: OfficeRig) -> None:
        self._rig = rig
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._room = TerminalRoom(self._nothing_spent, self._clock.monotonic_s)
        renderer = AnswerRenderer(lambda: rig.ledger.programme, self._clock.now_ms)
        self._dispatcher = Dispatcher(rig.ledger, renderer, self._room, TOKEN_KEY, LIMITS)

    async def _nothing_spent(self, _terminal_id: int) -> int:
        return 0

    async def sale(self, terminal_id: int, number: str, example: Example, now_ms: int) -> Answer:
        permitted = frozenset({int(Message.SALE)})
        terminal = Terminal(terminal_id, "T", 1, 1, permitted, True, b"", 4096, b"", b"")
        await self._room.load(terminal.terminal_id, self._rig.ledger.today())
        request = SaleRequest(
            os.urandom(16), 0, Card(CardKind.EAN13, number), Receipt(example.amount, "EUR"), example.points,
            example.partial, example.eligible,
        )  # fmt: skip
        register = Register()
        started = self._clock.monotonic_s()
        pending = Pending(register, 1, int(Message.SALE), started, self._metrics, self._room, self._clock)
        self._dispatcher.dispatch(request, bytes(8), terminal, pending, Moment(now_ms, started))
        async with asyncio.timeout(20):
            return await register.answered


def random_rules(chance: random.Random) -> Rules:
    """Return rules that could be saved, with every limit small enough to matter now and then."""
    while True:
        rules = Rules(
            valid_from_ms=0,
            earn_rate_bp=chance.choice((0, 1, 333, 500, 10_000)),
            activation_days=chance.choice((0, 0, 1, 14)),
            expiry_days=chance.choice((0, 0, 1, 30)),
            expiry_months=chance.choice((0, 0, 1, 12)),
            expiry_at_month_end=chance.random() < 0.3,
            redeem_min=chance.choice((0, 0, 80, 5_000)),
            redeem_max=chance.choice((0, 0, 300, 20_000)),
            share_bp=chance.choice((10_000, 10_000, 5_000, 3_333, 0)),
            day_points_max=chance.choice((0, 0, 700)),
            day_count_max=chance.choice((0, 0, 1)),
            terminal_day_points_max=chance.choice((0, 0, 90, 500)),
            slip=tuple(chance.sample(SLIP, chance.randrange(len(SLIP)))),
        )
        try:
            check(rules)
        except BadRules:
            continue
        return rules


def random_example(chance: random.Random) -> Example:
    amount = chance.choice((0, 1, 99, 10_000, 123_456, chance.randrange(50_000)))
    return Example(
        amount=amount,
        eligible=chance.choice((None, None, 0, amount // 2, amount + 5)),
        points=chance.choice((0, 1, 100, 600, 5_000, 25_000, amount)),
        partial=chance.random() < 0.5,
        available=chance.choice((0, 50, 600, 10_000, 1_000_000, 99_999_999_999)),
    )


def shown(answer: Answer) -> dict[str, Any]:
    balance = answer.balance
    assert balance is not None
    *amounts, expiring_on = balance
    return {
        "outcome": int(answer.outcome), "spent": answer.points, "earned": answer.earned, "balance": amounts,
        "expiring_on": expiring_on, "slip": list(answer.slip),
    }  # fmt: skip


def previewed(said: Effect) -> dict[str, Any]:
    balance = said.balance
    day = balance.expiring_on
    return {
        "outcome": int(Outcome[said.outcome]), "spent": said.spent, "earned": said.earned,
        "balance": [balance.available, balance.held, balance.pending, balance.owed, balance.expiring],
        "expiring_on": 0 if day is None else day.year * 10_000 + day.month * 100 + day.day, "slip": said.slip,
    }  # fmt: skip


def living_by(programme: Programme, rules: Rules) -> Programme:
    """Return the programme with other rules in network 1, as if they had been read."""
    return replace(programme, networks={1: replace(programme.networks[1], rules=(rules,))})


async def test_a_preview_says_what_the_ledger_then_decides(rig: OfficeRig) -> None:
    numbers = ean13_numbers("200000100000", CASES)
    async with onboarding(rig.postgres_url) as to:
        cards = await to.cards([new_card(CardKind.EAN13, n, TOKEN_KEY, active=True) for n in numbers])
        keys = new_secret().credentials
        terminals = [await to.terminal(1, f"sale-{n}", [int(Message.SALE)], keys) for n in range(CASES)]
    chance = random.Random(CASES)  # noqa: S311
    till, outcomes = Till(rig), set()
    for terminal, number, card in zip(terminals, numbers, cards, strict=True):
        rules, example = random_rules(chance), random_example(chance)
        rig.ledger.programme = living_by(rig.ledger.programme, rules)
        if example.available:
            await rig.office.desk.adjust(os.urandom(16), card.account, example.available, 0, "opening")
        now_ms = rig.clock.now_ms()
        said = effect(rig.ledger.programme, rules, example, now_ms)
        assert previewed(said) == shown(await till.sale(terminal, number, example, now_ms)), (rules, example)
        outcomes.add(said.outcome)
    # The cases reach every answer that rules and a balance can lead to.
    assert outcomes >= {
        "APPROVED", "APPROVED_PARTIAL", "BELOW_MINIMUM", "ABOVE_MAXIMUM", "ABOVE_SHARE", "ACCOUNT_LIMIT",
        "TERMINAL_LIMIT", "INSUFFICIENT",
    }  # fmt: skip


async def test_the_preview_shows_rules_to_try_beside_those_in_force(rig: OfficeRig) -> None:
    asked = {
        "rules": {"earn_rate_bp": 1_000, "expiry_days": 30, "slip": ["Earned {earned}", "Balance {available}"]},
        "example": {"amount": 10_000, "points": 500, "available": 2_000, "sale_ms": 20_000 * 86_400_000},
    }
    async with rig.client(Permission.RULES_READ) as client:
        answer = await client.post(PATH, json=asked, headers=rig.key())
        assert answer.status_code == 200, answer.text
        told = answer.json()
        versions = (await client.get("/v1/networks/1/rules/versions")).json()["items"]
    assert told["proposed"] == {
        "outcome": "APPROVED", "spent": 500, "earned": 950, "spendable_from": "2024-10-04",
        "expires_on": "2024-11-03", "slip": ["Earned 9.50", "Balance 24.50"],
        "balance": {
            "available": 2_450, "held": 0, "pending": 0, "owed": 0, "expiring": 950, "expiring_on": "2024-11-03",
        },
    }  # fmt: skip
    assert (told["in_force"]["earned"], told["in_force"]["expires_on"], told["in_force"]["slip"]) == (475, None, [])
    assert [change["field"] for change in told["changes"]] == ["earn_rate_bp", "expiry_days", "slip"]
    assert len(versions) == 1


async def test_a_decline_is_shown_as_one(rig: OfficeRig) -> None:
    asked = {"rules": {"redeem_min": 1_000}, "example": {"amount": 10_000, "points": 500, "available": 2_000}}
    async with rig.client() as client:
        told = (await client.post(PATH, json=asked, headers=rig.key())).json()
    assert (told["proposed"]["outcome"], told["in_force"]["outcome"]) == ("BELOW_MINIMUM", "APPROVED")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rules": {"share_bp": -1}, "example": {"amount": 1}}, "rules.share_bp"),
        ({"rules": {"slip": ["{x}"]}, "example": {"amount": 1}}, "rules.slip.0"),
        ({"rules": {}, "example": {"amount": -1}}, "example.amount"),
        ({"rules": {}, "example": {"amount": 1, "available": 10**12}}, "example.available"),
        ({"rules": {}, "example": {"amount": 1, "sale_ms": 5}}, "example.sale_ms"),
        ({"rules": {}}, "example"),
    ],
)
async def test_what_cannot_be_previewed_is_refused(rig: OfficeRig, asked: dict[str, Any], said: str) -> None:
    async with rig.client() as client:
        answer = await client.post(PATH, json=asked, headers=rig.key())
    assert answer.status_code == 422
    assert said in answer.text


async def test_a_preview_of_what_nobody_could_print_goes_without_a_slip_like_a_register(rig: OfficeRig) -> None:
    async with rig.registry.writing() as transaction:
        await transaction.execute("""UPDATE rules_version SET rules = rules || '{"slip": ["{nonsense}"]}'""")
    async with rig.client() as client:
        asked = {"rules": {"slip": ["Thank you"]}, "example": {"amount": 100}}
        told = (await client.post(PATH, json=asked, headers=rig.key())).json()
    assert (told["proposed"]["slip"], told["in_force"]["slip"]) == (["Thank you"], [])
