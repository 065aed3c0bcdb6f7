"""Points given or taken by hand: the form, the list of those that wait, and the second person's decision."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from admin_api.accounts import accounts, adjustments
from admin_api.accounts.accounts import day_of, iso_day
from admin_api.accounts.adjustments import AdjustmentAsked, AdjustmentView, State
from admin_api.accounts.history_finding import names_of
from admin_api.api.answers import AccountPath
from admin_api.console.account_words import balance_sentences, calendar, status_sentence, when
from admin_api.console.forms import FormKey, NotTaken, Typed, form_page, line_of, points_of, taken
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.fields import BigId
from admin_api.idempotency import Reply
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.problem import Problem
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Reader = Annotated[Visitor, Depends(visiting(Permission.ACCOUNTS_READ))]
Writer = Annotated[Visitor, Depends(visiting(Permission.ACCOUNTS_WRITE))]
Approver = Annotated[Visitor, Depends(visiting(Permission.ADJUSTMENTS_APPROVE))]
Verb = Literal["approve", "decline"]

_ROWS = 50
_FORBIDDEN = 403


@router.get("/accounts/{account_id}/adjust")
async def ask(visitor: Writer, office: InOffice, account_id: AccountPath) -> Response:
    """Ask how many points are to be given or taken."""
    return await _form(visitor, office, account_id, {})


@router.post("/accounts/{account_id}/adjust")
async def adjust(
    visitor: Writer, office: InOffice, account_id: AccountPath, key: FormKey,
    direction: Typed = "give", points: Typed = "", lasting: Typed = "", day: Typed = "", reason: Typed = "",
) -> Response:  # fmt: skip
    """Give or take points, or let it wait for a second person."""
    typed = {"direction": direction, "points": points, "lasting": lasting, "day": day, "reason": reason}
    try:
        asked = _asked(visitor.words, office, typed)

        async def work(request_id: bytes) -> Reply:
            made = await adjustments.adjust(office, seen(visitor), account_id, asked, request_id)
            return Reply(202 if made.state == "waiting" else 201, made.model_dump())

        reply = await taken(office, visitor, key, f"adjust {account_id}", asked.model_dump(), work)
    except NotTaken as told:
        return await _form(visitor, office, account_id, typed, told=told)
    made = AdjustmentView(**reply.body)
    if made.state == "waiting":
        return go(f"/adjustments/{made.adjustment_id}", Flash("done", "adjust.waits", {}))
    amount = visitor.words.points(abs(made.points))
    flash = "adjust.given" if made.points > 0 else "adjust.taken"
    return go(f"/accounts/{account_id}", Flash("done", flash, {"points": amount}))


def _asked(words: Words, office: Office, typed: dict[str, str]) -> AdjustmentAsked:
    points = points_of(typed["points"])
    if points is None:
        raise NotTaken(words.t("adjust.points_wrong"))
    reason = line_of(words, typed["reason"])
    if typed["direction"] == "take":
        return AdjustmentAsked(points=-points, expiry_day=None, network_id=None, reason=reason)
    kind, _, number = typed["lasting"].partition(":")
    if kind == "network" and number.isdigit() and int(number) in office.programme.networks:
        return AdjustmentAsked(points=points, expiry_day=None, network_id=int(number), reason=reason)
    if kind != "day":
        return AdjustmentAsked(points=points, expiry_day=None, network_id=None, reason=reason)
    try:
        last = day_of(typed["day"])
    except ValueError:
        last = -1
    if last < office.desk.today():
        raise NotTaken(words.t("adjust.day_wrong"))
    return AdjustmentAsked(points=points, expiry_day=iso_day(last), network_id=None, reason=reason)


async def _form(
    visitor: Visitor, office: Office, account_id: int, typed: dict[str, str], *, told: NotTaken | None = None
) -> Response:
    account = await accounts.account_of(office, seen(visitor), account_id)
    networks = sorted((network.name, network.network_id) for network in office.programme.networks.values())
    return form_page(
        visitor,
        f"/accounts/{account_id}/adjust",
        "adjust.html",
        told,
        account_id=account_id,
        sentences=balance_sentences(visitor.words, account, iso_day(office.desk.today())),
        state=status_sentence(visitor.words, account),
        networks=networks,
        typed={"direction": "give", "points": "", "lasting": "", "day": "", "reason": "", **typed},
        today=iso_day(office.desk.today()),
        limit=visitor.words.points(office.limits.adjust_alone_points_max),
    )


@router.get("/adjustments")
async def waiting(
    visitor: Reader,
    office: InOffice,
    show: Annotated[Literal["waiting", "all"], Query()] = "waiting",
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """List adjustments: those that wait, or all."""
    position = Position(_ROWS, decode(cursor) if cursor else ())
    state: State | None = "waiting" if show == "waiting" else None
    found = await adjustments.listed(office, seen(visitor), position, state, None)
    names = await names_of(office, [one.asked_by for one in found.items] + [one.decided_by for one in found.items])
    return page(
        visitor,
        "adjustments.html",
        items=[(one, _sentence(visitor.words, one), when(visitor.words, one.asked_ms)) for one in found.items],
        names=names,
        show=show,
        further=found.next or "",
    )


@router.get("/adjustments/{adjustment_id}")
async def show_one(visitor: Reader, office: InOffice, adjustment_id: BigId) -> Response:
    """Show one adjustment, to be decided on if it waits."""
    return await _one(visitor, office, adjustment_id)


@router.post("/adjustments/{adjustment_id}/{verb}")
async def decide(
    visitor: Approver, office: InOffice, adjustment_id: BigId, verb: Verb, key: FormKey
) -> Response:  # fmt: skip
    """Approve or decline what somebody else asked for."""
    deed = adjustments.approve if verb == "approve" else adjustments.decline

    async def work(_request_id: bytes) -> Reply:
        return Reply(200, (await deed(office, seen(visitor), adjustment_id)).model_dump())

    try:
        await taken(office, visitor, key, f"{verb} {adjustment_id}", {}, work, registry=verb == "decline")
    except NotTaken as told:
        return await _one(visitor, office, adjustment_id, told=told)
    except Problem as problem:
        if problem.status != _FORBIDDEN or not visitor.may(Permission.ADJUSTMENTS_APPROVE):
            raise
        return await _one(
            visitor, office, adjustment_id, told=NotTaken(visitor.words.t("adjust.second_person"), _FORBIDDEN)
        )
    return go(f"/adjustments/{adjustment_id}", Flash("done", f"adjust.{verb}_done", {}))


async def _one(visitor: Visitor, office: Office, adjustment_id: int, *, told: NotTaken | None = None) -> Response:
    words, actor = visitor.words, seen(visitor)
    one = await adjustments.adjustment_of(office, actor, adjustment_id)
    account = await accounts.account_of(office, actor, one.account_id)
    return form_page(
        visitor,
        f"/adjustments/{adjustment_id}",
        "adjustment.html",
        told,
        one=one,
        sentence=_sentence(words, one),
        sentences=balance_sentences(words, account, iso_day(office.desk.today())),
        state=status_sentence(words, account),
        names=await names_of(office, [one.asked_by, one.decided_by]),
        asked=when(words, one.asked_ms),
        decided=when(words, one.decided_ms) if one.decided_ms else "",
        own=one.asked_by == actor.name,
    )


def _sentence(words: Words, one: AdjustmentView) -> str:
    points = words.points(abs(one.points))
    if one.points < 0:
        return words.t("adjust.to_take", points=points)
    if one.expiry_day is None:
        return words.t("adjust.to_give", points=points)
    return words.t("adjust.to_give_until", points=points, day=calendar(words, one.expiry_day))
