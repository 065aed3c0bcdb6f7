"""Programme settings: the rules of each network in versions, a form with a preview, and the time zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, NamedTuple
from zoneinfo import available_timezones

from babel.numbers import get_currency_precision
from fastapi import APIRouter, Depends, Query, Response

from admin_api.accounts.history_finding import names_of
from admin_api.coalition import coalition
from admin_api.coalition.coalition import Network
from admin_api.console.entering import Fields, Refused, asked_of, refusal, taken_once
from admin_api.console.forms import FormKey, Typed, new_key
from admin_api.console.rendering import page
from admin_api.console.rules_form import SECTIONS, RulesForm, told
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.fields import BigId, Id
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.problem import Problem
from admin_api.programme import programme, rules
from admin_api.programme.programme import TimeZoneAsked
from admin_api.programme.rules import Change, NewRules, Rollback, RulesFields, RulesVersion
from admin_api.programme.rules_preview import Example, Preview, PreviewAsked, preview
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from ledger.slip import LINE_CHARACTERS_MAX, LINES_MAX, PLACEHOLDERS

router = APIRouter()
Looking = Annotated[Visitor, Depends(visiting(Permission.RULES_READ))]
Writing = Annotated[Visitor, Depends(visiting(Permission.RULES_WRITE))]
Deciding = Annotated[Visitor, Depends(visiting(Permission.COALITION_WRITE))]

_NETWORKS_MAX = 200
_VERSIONS = 20
_MINOR_MAX = 100_000_000_000
_EXAMPLE = ("amount", "points", "available")


class Difference(NamedTuple):
    """A rule that two versions say differently, in words."""

    name: str
    before: str
    after: str


class Listed(NamedTuple):
    """A version and how it differs from the one before it."""

    version: RulesVersion
    differences: Sequence[Difference]


@router.get("/programme")
async def show_all(visitor: Looking, office: InOffice) -> Response:
    """Show each network with the rules that it lives by, and the time zone."""
    actor = seen(visitor)
    networks = (await coalition.list_networks(office, actor, Position(limit=_NETWORKS_MAX))).items
    zone = await programme.time_zone(office, actor)
    current = [(network, await rules.current_rules(office, actor, network.network_id)) for network in networks]
    return page(visitor, "programme.html", networks=current, zone=zone, told=told)


@router.get("/programme/networks/{network_id}")
async def show_network(
    visitor: Looking, office: InOffice, network_id: Id, cursor: Annotated[str, Query(max_length=1_024)] = ""
) -> Response:
    """Show the rules in force and every version."""
    actor = seen(visitor)
    network = await coalition.get_network(office, actor, network_id)
    current = await rules.current_rules(office, actor, network_id)
    found = await rules.rules_versions(
        office, actor, network_id, Position(limit=_VERSIONS, key=decode(cursor) if cursor else ())
    )
    # The version before the last one shown is on the next page.
    older = await rules.rules_versions(
        office, actor, network_id, Position(limit=1, key=decode(found.next))
    ) if found.next else None  # fmt: skip
    following = [*found.items[1:], *(older.items if older else [None])]
    listed = [
        Listed(one, _differences(visitor.words, before.rules, one.rules) if before else ())
        for one, before in zip(found.items, following, strict=True)
    ]
    names = await names_of(office, _makers(found.items)) | {"system": visitor.words.t("rules.system")}
    return page(
        visitor, "network_rules.html", network=network, current=current, listed=listed, sections=SECTIONS, told=told,
        next=found.next or "", names=names,
    )  # fmt: skip


@router.get("/programme/networks/{network_id}/change")
async def ask(visitor: Writing, office: InOffice, network_id: Id) -> Response:
    """Show the rules in force as a form, and what they do to an example receipt."""
    network = await coalition.get_network(office, seen(visitor), network_id)
    current = await rules.current_rules(office, seen(visitor), network_id)
    return await _form(visitor, office, network, current, RulesForm.of(visitor.words, current.rules))


@router.post("/programme/networks/{network_id}/change")
async def change(visitor: Writing, office: InOffice, network_id: Id, key: FormKey, fields: Fields) -> Response:
    """Show what the typed rules would do, or save them."""
    actor, words = seen(visitor), visitor.words
    network = await coalition.get_network(office, actor, network_id)
    current = await rules.current_rules(office, actor, network_id)
    typed = {name: str(value) for name, value in fields.items() if isinstance(value, str)}
    form = RulesForm.of(words, current.rules, typed)
    if typed.get("step") != "save":
        return await _form(visitor, office, network, current, form)
    try:
        asked = asked_of(
            words, NewRules, rules=form.change(), note=typed.get("note", ""),
            valid_from_ms=_valid_from_ms(words, office, typed),
        )  # fmt: skip

        async def save() -> rules.SavedRules:
            # Here and not before: sent twice, a form finds its own rules in force.
            _check_base(words, typed, await rules.current_rules(office, actor, network_id))
            return await rules.save_rules(office, actor, network_id, asked)

        done = await taken_once(office, visitor, key, f"rules of {network_id}", asked, save)
    except Refused as refused:
        return await _form(visitor, office, network, current, form, refused)
    return go(f"/programme/networks/{network_id}", Flash("done", _saved(done), {}))


@router.get("/programme/networks/{network_id}/versions/{version}/{verb}")
async def ask_version(visitor: Writing, office: InOffice, network_id: Id, version: BigId, verb: str) -> Response:
    """Ask whether a version is to hold again, or to be withdrawn."""
    return await _version_page(visitor, office, network_id, version, verb)


@router.post("/programme/networks/{network_id}/versions/{version}/rollback")
async def roll_back(
    visitor: Writing, office: InOffice, network_id: Id, version: BigId, key: FormKey, note: Typed = ""
) -> Response:
    """Let an older version hold again from now on."""
    try:
        asked = asked_of(visitor.words, Rollback, note=note)
        await taken_once(
            office, visitor, key, f"rollback {network_id} {version}", asked,
            lambda: rules.roll_back(office, seen(visitor), network_id, version, asked),
        )  # fmt: skip
    except Refused as refused:
        return await _version_page(visitor, office, network_id, version, "rollback", refused)
    return go(f"/programme/networks/{network_id}", Flash("done", "rules.rollback_done", {"version": version}))


@router.post("/programme/networks/{network_id}/versions/{version}/withdraw")
async def withdraw(visitor: Writing, office: InOffice, network_id: Id, version: BigId, key: FormKey) -> Response:
    """Take back a version that is not in force yet."""
    try:
        await taken_once(
            office, visitor, key, f"withdraw {network_id} {version}", {},
            lambda: rules.withdraw_rules(office, seen(visitor), network_id, version),
        )  # fmt: skip
    except Refused as refused:
        return await _version_page(visitor, office, network_id, version, "withdraw", refused)
    return go(f"/programme/networks/{network_id}", Flash("done", "rules.withdraw_done", {"version": version}))


@router.get("/programme/time-zone")
async def ask_zone(visitor: Deciding, office: InOffice) -> Response:
    """Ask for another time zone."""
    zone = await programme.time_zone(office, seen(visitor))
    return _zone_page(visitor, zone.time_zone)


@router.post("/programme/time-zone")
async def set_zone(visitor: Deciding, office: InOffice, key: FormKey, time_zone: Typed = "") -> Response:
    """Let days begin and end by another time zone."""
    asked = TimeZoneAsked(time_zone=time_zone.strip())
    try:
        await taken_once(
            office, visitor, key, "time zone", asked, lambda: programme.set_time_zone(office, seen(visitor), asked)
        )
    except Refused:
        return _zone_page(visitor, time_zone, visitor.words.t("rules.zone_unknown"))
    return go("/programme", Flash("done", "rules.zone_done", {"zone": asked.time_zone}))


def _makers(versions: Sequence[RulesVersion]) -> set[str]:
    """Return everybody who saved or withdrew one of these."""
    return {one.made_by for one in versions} | {one.withdrawn_by for one in versions if one.withdrawn_by}


async def _form(
    visitor: Visitor, office: Office, network: Network, current: RulesVersion, form: RulesForm,
    refused: Refused | None = None,
) -> Response:  # fmt: skip
    words = visitor.words
    example, faults = _example(words, network.currency, form.typed)
    faults |= _in_words(form, refused.fields) if refused else {}
    shown: Preview | None = None
    if not faults:
        try:
            asked = PreviewAsked(rules=form.change(), example=example)
            shown = await preview(office, seen(visitor), network.network_id, asked)
        except Refused as wrong:
            faults |= wrong.fields
        except Problem as problem:
            faults |= _in_words(form, refusal(words, problem).fields)
    sentence = words.t("entry.mend") if faults else refused.sentence if refused else ""
    return page(
        visitor, "rules_form.html", status=refused.status if refused else 200, network=network, current=current,
        typed=form.typed, example=_example_texts(words, network.currency, form.typed), faults=faults, wrong=sentence,
        sections=SECTIONS, preview=shown, differences=_of_changes(words, shown.changes) if shown else (),
        placeholders=PLACEHOLDERS, slip_lines_max=LINES_MAX, slip_characters_max=LINE_CHARACTERS_MAX, key=new_key(),
        base=_base(current), today=_today(office), zone=office.programme.days.zone, money=words.money,
    )  # fmt: skip


async def _version_page(
    visitor: Visitor, office: Office, network_id: int, version: int, verb: str, refused: Refused | None = None
) -> Response:
    actor = seen(visitor)
    network = await coalition.get_network(office, actor, network_id)
    found = await rules.rules_version(office, actor, network_id, version)
    current = await rules.current_rules(office, actor, network_id)
    return page(
        visitor, "rules_version.html", status=refused.status if refused else 200, network=network, found=found,
        verb="withdraw" if verb == "withdraw" else "rollback", wrong=refused.sentence if refused else "",
        differences=_differences(visitor.words, current.rules, found.rules), key=new_key(),
    )  # fmt: skip


def _zone_page(visitor: Visitor, zone: str, wrong: str = "") -> Response:
    return page(
        visitor, "time_zone.html", status=422 if wrong else 200, zone=zone, zones=sorted(available_timezones()),
        wrong=wrong, key=new_key(),
    )  # fmt: skip


def _in_words(form: RulesForm, faults: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with rules by the fields of the form; what was said in words already stays."""
    found: dict[str, str] = {}
    for name, what in faults.items():
        plain = name.removeprefix("rules.")
        known = plain in form.typed and what[:1].isupper()
        field, sentence = (plain, what) if known else form.fault(name, what)
        found[field] = f"{found[field]} {sentence}" if field in found else sentence
    return found


def _differences(words: Words, before: RulesFields, after: RulesFields) -> list[Difference]:
    old, new = before.model_dump(), after.model_dump()
    return [
        Difference(words.t(f"rules.{name}"), told(words, name, old[name]), told(words, name, new[name]))
        for name in old
        if old[name] != new[name]
    ]


def _of_changes(words: Words, changes: Sequence[Change]) -> list[Difference]:
    return [
        Difference(words.t(f"rules.{one.field}"), told(words, one.field, one.before), told(words, one.field, one.after))
        for one in changes
    ]


def _check_base(words: Words, typed: dict[str, str], current: RulesVersion) -> None:
    if typed.get("base") != _base(current):
        raise Refused(words.t("rules.changed_meanwhile"), status=409)


def _base(current: RulesVersion) -> str:
    return "none" if current.version is None else str(current.version)


def _saved(done: dict[str, Any]) -> str:
    return "rules.saved_planned" if done["saved"]["state"] == "planned" else "rules.saved"


def _today(office: Office) -> date:
    return datetime.fromtimestamp(office.clock.now_ms() / 1000, UTC).astimezone(office.programme.days.zone).date()


def _valid_from_ms(words: Words, office: Office, typed: dict[str, str]) -> int | None:
    """Return from when on rules are to hold; None is now. Raises Refused."""
    if typed.get("from") != "day":
        return None
    try:
        day = date.fromisoformat(typed.get("day", ""))
    except ValueError:
        raise Refused(words.t("entry.mend"), {"day": words.t("rules.day_needed")}) from None
    if not _today(office) < day <= date(9998, 12, 31):
        raise Refused(words.t("entry.mend"), {"day": words.t("rules.day_past")})
    return round(datetime(day.year, day.month, day.day, tzinfo=office.programme.days.zone).timestamp() * 1000)


# ---- the example receipt


def _example_texts(words: Words, currency: str, typed: dict[str, str]) -> dict[str, str]:
    comma = "," if words.language == "ru" else "."
    digits = get_currency_precision(currency)
    first = {"amount": "50" + (comma + "0" * digits if digits else ""), "points": "10", "available": "100"}
    return {name: typed.get(name, first[name]) for name in _EXAMPLE} | {"partial": typed.get("partial", "")}


def _example(words: Words, currency: str, typed: dict[str, str]) -> tuple[Example, dict[str, str]]:
    """Return the example, and what is wrong with it by field."""
    texts = _example_texts(words, currency, typed)
    digits = {"amount": get_currency_precision(currency), "points": 2, "available": 2}
    values = {name: _minor(texts[name], digits[name]) for name in _EXAMPLE}
    faults = {name: words.t(f"rules.example_bad_{name}") for name, value in values.items() if value is None}
    example = Example(**{name: value or 0 for name, value in values.items()}, partial=bool(texts["partial"]))
    return example, faults


def _minor(text: str, digits: int) -> int | None:
    try:
        minor = Decimal("".join(text.split()).replace(",", ".") or "0").scaleb(digits)
    except InvalidOperation:
        return None
    if not minor.is_finite() or minor != minor.to_integral_value() or not 0 <= minor <= _MINOR_MAX:
        return None
    return int(minor)
