"""The demo programme of `tillwire up`: a small coalition in which every operation can be tried."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from admin_api.cards.card_numbers import ean13_numbers, new_card
from admin_api.coalition.terminal_secrets import new_secret
from ledger.card_tokens import token_hash
from ledger.clock import SystemClock
from ledger.greetings import encrypt
from ledger.journal.enrolment import Enrolled
from ledger.journal.onboarding import Onboarding, onboarding
from ledger.ledger import Ledger, Place
from ledger.programme import Rules
from ledger.submission import Refusal, Submission
from protocol.codes import CardKind, Message
from server.errors import OperatorError
from server.ledger_engines import ledger_engines
from server.ledger_limits import ledger_limits
from server.programme_setup import add_terminal
from server.registers.answers import AnswerRenderer
from server.secrets import Secrets
from server.settings import Settings

TERMINALS_FILE = "terminals.toml"
FIRST_CARD = "200000000001"
MEMBERS = 200
_OPENING_PATIENCE_S = 30.0

_EVERYTHING = tuple(int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE)
_EARN_ONLY = (int(Message.BALANCE), int(Message.EARN), int(Message.REFUND))
_SLIP = (
    "Points spent: {spent}",
    "Points earned: {earned}",
    "Points returned: {given_back}",
    "Points taken back: {taken_back}",
    "Points held: {held}",
    "Balance: {available}",
    "{expiring} points expire on {expiring_on}",
)
_NAMES = ("Anna", "Boris", "Clara", "Daniel", "Elena", "Farid", "Greta", "Hugo", "Irina", "Jakob")


@dataclass(frozen=True)
class _Chain:
    partner: str
    network: str
    rules: Rules
    stores: dict[str, tuple[str, ...]]
    permitted: tuple[int, ...]


_CHAINS = (
    _Chain(
        "Harvest Foods",
        "Harvest Market",
        Rules(
            valid_from_ms=0, earn_rate_bp=500, expiry_months=12, expiry_at_month_end=True, redeem_min=100,
            share_bp=5_000, greeting=True, slip=_SLIP,
        ),
        {"Mill Street": ("harvest-mill-1", "harvest-mill-2"), "North Gate": ("harvest-north-1", "harvest-north-2")},
        _EVERYTHING,
    ),
    _Chain(
        "Corner Pharmacy",
        "Corner Pharmacies",
        Rules(valid_from_ms=0, earn_rate_bp=300, activation_days=1, expiry_days=180, slip=_SLIP),
        {"Old Town": ("corner-old-1", "corner-old-2"), "Station": ("corner-station-1", "corner-station-2")},
        _EARN_ONLY,
    ),
)  # fmt: skip


async def create(settings: Settings, secrets: Secrets) -> None:
    """Create partners, networks, stores, terminals and members, each with points from a first purchase.

    What exists is left alone, so it may be called at every start and after a kill at any moment. The terminals' secrets
    go to data_dir/terminals.toml, readable by the owner alone. Raises OperatorError.
    """
    if settings.postgres_url is None or settings.redis_url is None:
        raise OperatorError("the demo programme needs postgres_url and redis_url")
    postgres_url = settings.postgres_url.get_secret_value()
    numbers = ean13_numbers(FIRST_CARD, MEMBERS)
    async with onboarding(postgres_url) as to:
        await _create_programme(to, settings.data_dir / TERMINALS_FILE)
        enrolled = await to.cards(
            [new_card(CardKind.EAN13, number, secrets.token_key, active=True) for number in numbers]
        )
        await _name(to, enrolled, secrets.personal_key)
        opened = await to.accounts_in_use()
    if opened < MEMBERS:
        await _open(settings, secrets, numbers)


def _known_terminals(file: Path) -> dict[str, dict[str, str]]:
    return dict(tomllib.loads(file.read_text()).get("terminals", {})) if file.exists() else {}


async def _create_programme(to: Onboarding, file: Path) -> None:
    """Create what is missing; the secrets are written down before the rows that they belong to are committed."""
    known = _known_terminals(file)
    found = {code: str(entry["secret"]) for code, entry in known.items()}
    if await to.has_partners():
        await _renew_lost_secrets(to, found)
    else:
        for chain in _CHAINS:
            found |= await _create_chain(to, chain)
    if found != {code: entry["secret"] for code, entry in known.items()}:
        _write_private(file, "".join(f'[terminals."{code}"]\nsecret = "{found[code]}"\n\n' for code in found))


async def _create_chain(to: Onboarding, chain: _Chain) -> dict[str, str]:
    network_id = await to.network(await to.partner(chain.partner), chain.network, "EUR")
    await to.rules(network_id, chain.rules)
    made = {}
    for store, codes in chain.stores.items():
        store_id = await to.store(network_id, store)
        for code in codes:
            made[code] = await add_terminal(to, store_id, code, chain.permitted)
    return made


async def _renew_lost_secrets(to: Onboarding, found: dict[str, str]) -> None:
    """Give the demo's terminals new secrets when the file that held them is gone: nobody else knows them."""
    for code in (code for chain in _CHAINS for codes in chain.stores.values() for code in codes):
        if code in found:
            continue
        made = new_secret()
        if await to.renew(code, made.credentials):
            found[code] = made.secret


async def _name(to: Onboarding, enrolled: list[Enrolled], personal_key: bytes) -> None:
    for position, member in enumerate(enrolled):
        name = _NAMES[position % len(_NAMES)]
        await to.greeting(member.account, encrypt(personal_key, member.account, name))


def _write_private(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)


class _Counter:
    """Waits for so many answers."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self.refused = 0
        self.done = asyncio.Event()

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:  # noqa: ARG002
        self._count()

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:  # noqa: ARG002
        self.refused += 1
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self.done.set()


async def _open(settings: Settings, secrets: Secrets, numbers: list[str]) -> None:
    """Let every member earn on a first purchase, through the ledger like any other request."""
    clock = SystemClock()
    ledger = Ledger(
        ledger_engines(settings, secrets),
        Place("demo"),
        ledger_limits(settings),
        AnswerRenderer(lambda: ledger.programme, clock.now_ms),
        _nowhere,
        clock,
    )
    await ledger.start()
    try:
        async with asyncio.timeout(_OPENING_PATIENCE_S):
            while not ledger.health()["ready"]:  # noqa: ASYNC110 - happens once, at the first start
                await asyncio.sleep(0.02)
            counter = _Counter(len(numbers))
            for position, number in enumerate(numbers):
                ledger.submit(_first_purchase(ledger, secrets, clock, position, number, counter))
            await counter.done.wait()
        if counter.refused:
            raise OperatorError("the demo members' first purchases could not be journaled; start again")
    finally:
        await ledger.stop(1.0)


def _first_purchase(
    ledger: Ledger, secrets: Secrets, clock: SystemClock, position: int, number: str, counter: _Counter
) -> Submission:
    network = next(n for n in ledger.programme.networks.values() if n.name == _CHAINS[0].network)
    now_ms = clock.now_ms()
    rules = network.rules_at(now_ms)
    active_day, expiry_day = rules.earning_days(ledger.programme.day(now_ms))
    canonical = f"ean13:{number}"
    return Submission(
        op=int(Message.EARN),
        # The same id at every start, so that nobody earns twice on a first purchase.
        request_id=hashlib.blake2b(f"first purchase of {canonical}".encode(), digest_size=16).digest(),
        token=token_hash(canonical, secrets.token_key),
        terminal_id=0,
        partner_id=network.partner_id,
        network_id=network.network_id,
        fingerprint=bytes(8),
        terms=rules.terms,
        deadline=clock.monotonic_s() + _OPENING_PATIENCE_S,
        reply_to=counter,
        amount=20_000 + 1_000 * (position % 50),
        active_day=active_day,
        expiry_day=expiry_day,
        currency=network.currency,
        reference="first purchase",
    )


def _nowhere(_address: str, _submission: Submission) -> bool:
    return False
