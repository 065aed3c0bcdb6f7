"""The programme of the replay: one network with a store for each of the data set's, a card for each household."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from admin_api.coalition.terminal_secrets import new_secret
from ledger.card_tokens import token_hash
from ledger.journal.enrolment import NewCard
from ledger.journal.onboarding import Onboarding, onboarding
from ledger.programme import Rules
from protocol import scram, tokens
from protocol.codes import Message
from protocol.requests import Card
from server.programme_setup import numbered_card

CURRENCY = "USD"
_NAME = "The Complete Journey"
_ACTIVE = 1
_PERMITTED = (Message.BALANCE, Message.SALE)


@dataclass(frozen=True, slots=True)
class Sign:
    """By what a till signs on: terminal id and secret."""

    terminal: str
    secret: str


@dataclass(frozen=True, slots=True)
class Town:
    """The tills of each store and the card of each household, by the data set's ids."""

    tills: Mapping[int, tuple[Sign, ...]]
    cards: Mapping[int, Card]


async def found(
    postgres_url: str, token_key: bytes, stores: Iterable[int], households: Iterable[int], tills: int, earn_bp: int
) -> Town:
    """Create everything in an empty, migrated database, with `tills` terminals in every store."""
    cards = {household: numbered_card(household) for household in sorted(set(households))}
    async with onboarding(postgres_url) as to:
        signs = await _open_stores(to, stores, tills, earn_bp)
        await to.cards([_new_card(card, token_key) for card in cards.values()])
    return Town(signs, cards)


async def _open_stores(to: Onboarding, stores: Iterable[int], tills: int, earn_bp: int) -> dict[int, tuple[Sign, ...]]:
    partner = await to.partner(_NAME)
    network = await to.network(partner, _NAME, CURRENCY)
    await to.rules(network, Rules(valid_from_ms=0, earn_rate_bp=earn_bp))
    signs = {}
    for number in sorted(set(stores)):
        store = await to.store(network, f"Store {number}")
        signs[number] = tuple([await _open_till(to, store, f"store-{number}-till-{till + 1}") for till in range(tills)])
    return signs


async def _open_till(to: Onboarding, store: int, code: str) -> Sign:
    made = new_secret(scram.ITERATIONS_MIN)
    await to.terminal(store, code, _PERMITTED, made.credentials)
    return Sign(code, made.secret)


def _new_card(card: Card, token_key: bytes) -> NewCard:
    if card.token is None:
        raise AssertionError("a card made here has a good check digit")
    return NewCard(token_hash(card.token, token_key), card.kind, tokens.masked(card.token), _ACTIVE)
