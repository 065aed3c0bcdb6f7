"""Taking in a partner with everything, a network, a store with its terminals, a terminal: one form each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from babel.numbers import is_currency
from fastapi import APIRouter, Depends, Query, Response
from starlette.datastructures import FormData

from admin_api.coalition import coalition, onboarding, terminals
from admin_api.coalition.coalition import NewNetwork
from admin_api.coalition.onboarding import NetworkWithRules, NewStore, Onboarding, PartnerName, StoreWithTerminals
from admin_api.coalition.terminal_secrets import new_secrets
from admin_api.coalition.terminals import OPERATIONS, NewTerminal, TerminalOfStore
from admin_api.console.credentials import credentials_answer
from admin_api.console.entering import Fields, Refused, asked_of, bad, taken_once
from admin_api.console.forms import FormKey, new_key
from admin_api.console.rendering import page
from admin_api.console.rules_form import RulesForm
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.fields import INTEGER_MAX
from admin_api.office import Office
from admin_api.programme.rules import RulesFields
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from protocol.session import TERMINAL_ID

router = APIRouter()
Owner = Annotated[Visitor, Depends(visiting(Permission.COALITION_WRITE))]
Keeper = Annotated[Visitor, Depends(visiting(Permission.TERMINALS_WRITE))]
Within = Annotated[int, Query(ge=1, le=INTEGER_MAX)]

#: What a cash register usually may do; who may block and replace cards is for the chain to decide.
USUAL = tuple(name for name in OPERATIONS if name not in {"block", "replace"})
_STORES_MAX = 20
_BETWEEN_CODES = re.compile(r"[\s,;]+")
_RULES = ("earn_rate_bp", "share_bp", "activation_days", "expiry_months", "redeem_min")


@dataclass
class Typed:
    """What stands in the form: stores as (name, codes), what their terminals may do, and all else by name."""

    values: dict[str, str] = field(default_factory=dict)
    stores: list[tuple[str, str]] = field(default_factory=lambda: [("", "")])
    permitted: Sequence[str] = USUAL

    @classmethod
    def of(cls, form: FormData) -> Typed:
        """Return what was sent."""
        values = {name: str(value).strip() for name, value in form.multi_items() if isinstance(value, str)}
        names, codes = (list(map(str, form.getlist(name))) for name in ("store", "codes"))
        stores = [(name.strip(), code.strip()) for name, code in zip(names, codes, strict=False)][:_STORES_MAX]
        return cls(values, stores or [("", "")], [name for name in OPERATIONS if name in form.getlist("permitted")])

    def get(self, name: str) -> str:
        """Return a value, or nothing."""
        return self.values.get(name, "")

    @property
    def sent(self) -> dict[str, str | list[str]]:
        """All of it, to be sent again."""
        again: dict[str, str | list[str]] = {
            name: value for name, value in self.values.items()
            if name not in {"csrf", "store", "codes", "permitted", "as_file", "step"}
        }  # fmt: skip
        again["store"] = [name for name, _ in self.stores]
        again["codes"] = [codes for _, codes in self.stores]
        again["permitted"] = list(self.permitted)
        return again

    def opened(self, words: Words) -> list[StoreWithTerminals]:
        """Return the stores as they are asked for; blocks left empty are none. Raises Refused."""
        wrong: dict[str, str] = {}
        stores = []
        filled = [(index, name, codes) for index, (name, codes) in enumerate(self.stores) if name or codes]
        lists = [self._codes(codes) for _, _, codes in filled]
        twice = {code for code, count in Counter(code for codes in lists for code in codes).items() if count > 1}
        for (index, name, _), codes in zip(filled, lists, strict=True):
            unfit = [code for code in codes if not TERMINAL_ID.fullmatch(code)]
            if unfit:
                wrong[f"codes.{index}"] = words.t("entry.code_wrong", code=unfit[0][:40])
            elif twice & set(codes):
                wrong[f"codes.{index}"] = words.t("entry.code_twice", code=min(twice & set(codes)))
            if not _is_name(name):
                wrong[f"store.{index}"] = bad(words, "name")
                continue
            if not wrong:
                new = [NewTerminal(code=code, permitted=list(self.permitted)) for code in codes]  # type: ignore[arg-type]
                stores.append(StoreWithTerminals(name=name, terminals=new))
        if wrong:
            raise Refused(words.t("entry.mend"), wrong)
        return stores

    def one_opened(self, words: Words) -> StoreWithTerminals:
        """Return the one store of a form that asks for one. Raises Refused."""
        stores = self.opened(words)
        if not stores:
            raise Refused(words.t("entry.mend"), {"store.0": bad(words, "name")})
        return stores[0]

    @staticmethod
    def _codes(text: str) -> list[str]:
        return [code for code in _BETWEEN_CODES.split(text) if code]


@router.get("/coalition/new")
async def ask_partner(visitor: Owner) -> Response:
    """Ask for a partner with its network, the first rules, stores and terminals."""
    return _partner_page(visitor, Typed(RulesForm.of(visitor.words, RulesFields()).typed))


@router.post("/coalition/new")
async def take_in(visitor: Owner, office: InOffice, key: FormKey, fields: Fields) -> Response:
    """Take in a partner with everything, and show its terminals' credentials once."""
    typed, words = Typed.of(fields), visitor.words
    if typed.get("step") == "another_store":
        typed.stores.append(("", ""))
        return _partner_page(visitor, typed)
    try:
        asked = _onboarding(words, typed)
        secrets = await new_secrets(onboarding.check_terminals(asked.terminals))
        done = await taken_once(
            office, visitor, key, "onboard", asked,
            lambda: onboarding.onboard(office, seen(visitor), asked, secrets),
        )  # fmt: skip
    except Refused as told:
        return _partner_page(visitor, typed, told)
    return _opened(office, visitor, typed, done["stores"], f"/coalition/partners/{done['partner_id']}")


@router.get("/coalition/networks/new")
async def ask_network(visitor: Owner, office: InOffice, partner: Within) -> Response:
    """Ask for a further network of a partner."""
    typed = Typed(RulesForm.of(visitor.words, RulesFields()).typed)
    return await _network_page(visitor, office, partner, typed)


@router.post("/coalition/networks/new")
async def add_network(visitor: Owner, office: InOffice, partner: Within, key: FormKey, fields: Fields) -> Response:
    """Add a network to a partner."""
    typed, words = Typed.of(fields), visitor.words
    try:
        new = _network(words, typed)
        asked = NewNetwork(partner_id=partner, name=new.name, currency=new.currency, rules=new.rules)
        done = await taken_once(
            office, visitor, key, f"network of {partner}", asked,
            lambda: coalition.add_network(office, seen(visitor), asked),
        )  # fmt: skip
    except Refused as told:
        return await _network_page(visitor, office, partner, typed, told)
    return go(f"/coalition/networks/{done['network_id']}", Flash("done", "coalition.added", {"name": done["name"]}))


@router.get("/coalition/stores/new")
async def ask_store(visitor: Owner, office: InOffice, network: Within) -> Response:
    """Ask for a store and its terminals."""
    return await _store_page(visitor, office, network, Typed())


@router.post("/coalition/stores/new")
async def add_store(visitor: Owner, office: InOffice, network: Within, key: FormKey, fields: Fields) -> Response:
    """Add a store, and show its terminals' credentials once."""
    typed = Typed.of(fields)
    try:
        store = typed.one_opened(visitor.words)
        asked = NewStore(network_id=network, name=store.name, terminals=store.terminals)
        secrets = await new_secrets(onboarding.check_terminals(asked.terminals))
        done = await taken_once(
            office, visitor, key, f"store of {network}", asked,
            lambda: onboarding.add_store(office, seen(visitor), asked, secrets),
        )  # fmt: skip
    except Refused as told:
        return await _store_page(visitor, office, network, typed, told)
    return _opened(office, visitor, typed, [done], f"/coalition/stores/{done['store_id']}")


@router.get("/coalition/terminals/new")
async def ask_terminal(visitor: Keeper, office: InOffice, store: Within) -> Response:
    """Ask for a further terminal of a store."""
    return await _terminal_page(visitor, office, store, Typed())


@router.post("/coalition/terminals/new")
async def add_terminal(visitor: Keeper, office: InOffice, store: Within, key: FormKey, fields: Fields) -> Response:
    """Add a terminal, and show its credentials once."""
    typed = Typed.of(fields)
    found = await coalition.get_store(office, seen(visitor), store)
    try:
        asked = asked_of(
            visitor.words, TerminalOfStore, store_id=store, code=typed.get("code"), permitted=list(typed.permitted)
        )
        done = await taken_once(
            office, visitor, key, f"terminal of {store}", asked,
            lambda: terminals.add_terminal(office, seen(visitor), asked),
        )  # fmt: skip
    except Refused as told:
        return await _terminal_page(visitor, office, store, typed, told)
    opened = [{"name": found.name, "terminals": [done]}]
    return _opened(office, visitor, typed, opened, f"/coalition/stores/{store}")


def _onboarding(words: Words, typed: Typed) -> Onboarding:
    """Return the whole as it is asked for. Raises Refused with everything that is wrong at once."""
    wrong: dict[str, str] = {}
    network, stores = None, None
    if not _is_name(typed.get("partner")):
        wrong["partner"] = bad(words, "name")
    try:
        network = _network(words, typed)
    except Refused as told:
        wrong |= told.fields
    try:
        stores = typed.opened(words)
    except Refused as told:
        wrong |= told.fields
    if wrong or network is None or stores is None:
        raise Refused(words.t("entry.mend"), wrong)
    return Onboarding(partner=PartnerName(name=typed.get("partner")), network=network, stores=stores)


def _network(words: Words, typed: Typed) -> NetworkWithRules:
    wrong: dict[str, str] = {}
    name, currency = typed.get("network"), typed.get("currency").upper()
    if not _is_name(name):
        wrong["network"] = bad(words, "name")
    if not is_currency(currency):
        wrong["currency"] = bad(words, "currency")
    rules = RulesFields()
    try:
        change = RulesForm.of(words, rules, typed.values).change(only=_RULES)
        rules = rules.model_copy(update=change.model_dump(exclude_none=True))
    except Refused as told:
        wrong |= told.fields
    if wrong:
        raise Refused(words.t("entry.mend"), wrong)
    return NetworkWithRules(name=name, currency=currency, rules=rules)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 128 and text.isprintable()  # noqa: PLR2004 - as `Name` in admin_api/fields.py


def _opened(office: Office, visitor: Visitor, typed: Typed, stores: Iterable[dict[str, Any]], place: str) -> Response:
    """Show the credentials; a store without terminals has none, and then there is nothing to show."""
    shown = [(store["name"], store["terminals"]) for store in stores if store["terminals"]]
    if not shown:
        return go(place, Flash("done", "coalition.opened_bare", {}))
    return credentials_answer(office, visitor, shown, "opened", place, typed.sent, as_file=bool(typed.get("as_file")))


def _partner_page(visitor: Visitor, typed: Typed, told: Refused | None = None) -> Response:
    return _page(visitor, "partner_new.html", typed, told, rules=_RULES, stores_max=_STORES_MAX)


async def _network_page(
    visitor: Visitor, office: Office, partner_id: int, typed: Typed, told: Refused | None = None
) -> Response:
    partner = await coalition.get_partner(office, seen(visitor), partner_id)
    return _page(visitor, "network_new.html", typed, told, partner=partner, rules=_RULES)


async def _store_page(
    visitor: Visitor, office: Office, network_id: int, typed: Typed, told: Refused | None = None
) -> Response:
    network = await coalition.get_network(office, seen(visitor), network_id)
    return _page(visitor, "store_new.html", typed, told, network=network)


async def _terminal_page(
    visitor: Visitor, office: Office, store_id: int, typed: Typed, told: Refused | None = None
) -> Response:
    store = await coalition.get_store(office, seen(visitor), store_id)
    return _page(visitor, "terminal_new.html", typed, told, store=store)


def _faults(words: Words, typed: Typed, told: Refused | None) -> dict[str, str]:
    """Return what is wrong by field; what the ledger says of rules, in words."""
    form = RulesForm.of(words, RulesFields(), typed.values)
    found = {}
    for name, what in told.fields.items() if told else ():
        field_name, sentence = form.fault(name.removeprefix("network."), what) if "rules." in name else (name, what)
        found[field_name] = sentence
    return found


def _page(visitor: Visitor, template: str, typed: Typed, told: Refused | None, **more: Any) -> Response:
    faults = _faults(visitor.words, typed, told)
    wrong = visitor.words.t("entry.mend") if faults else told.sentence if told else ""
    return page(
        visitor, template, status=told.status if told else 200, typed=typed, operations=tuple(OPERATIONS),
        wrong=wrong, faults=faults, key=new_key(), **more,
    )  # fmt: skip
