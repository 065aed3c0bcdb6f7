"""Manual adjustments: small ones at once, large ones when a second person has looked at them.

Each is a row before the ledger hears of it, so one that was approved is made even if the process dies before it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

import structlog
from pydantic import BaseModel, Field, model_validator

from admin_api.accounts.accounts import ReasonText, check_account, day_of, iso_end
from admin_api.deeds import Deed, do
from admin_api.fields import Asked
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import Problem, conflict, forbidden, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry import adjustments
from ledger.registry.registry import Conflict, Row

log = structlog.get_logger(subject="adjustments")

State = Literal["waiting", "approved", "declined", "done"]

_POINTS_MAX = 100_000_000_000
_SYSTEM = Actor("system", "system", frozenset())
#: So long an approved one is left to whoever approved it.
_GRACE_MS = 30_000
_SWEPT_MAX = 100
_BIGGEST_ID = 2**62
#: What a person does alone on one account counts together for so long.
_DAY_MS = 86_400_000


class AdjustmentAsked(Asked):
    """Points to give (positive) or take, and until when those given last: a day, or by the rules of a network."""

    points: Annotated[int, Field(ge=-_POINTS_MAX, le=_POINTS_MAX, description="Minor units; not 0.")]
    expiry_day: str | None = Field(None, max_length=10, description='The last day, as in "2026-12-31"; null: never.')
    network_id: int | None = Field(None, ge=1, le=2**31 - 1, description="Instead: the network whose rules say it.")
    reason: ReasonText

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.points == 0:
            raise ValueError("an adjustment of nothing")
        if self.expiry_day is not None and self.network_id is not None:
            raise ValueError("give either expiry_day or network_id")
        return self


class AdjustmentView(BaseModel):
    """An adjustment: waiting for a second person, approved (the ledger is at it), declined, or done."""

    adjustment_id: int
    account_id: int
    points: int
    expiry_day: str | None
    reason: str
    state: State
    asked_by: str
    asked_ms: int
    decided_by: str | None
    decided_ms: int | None
    request_id: str

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return the view of a row of office.adjustment."""
        names = (
            "adjustment_id", "account_id", "points", "reason", "state", "asked_by", "asked_ms", "decided_by",
            "decided_ms",
        )  # fmt: skip
        return cls(
            expiry_day=iso_end(row["expiry_day"]),
            request_id=row["request_id"].hex(),
            **{name: row[name] for name in names},
        )


async def adjust(
    office: Office, actor: Actor, account: int, asked: AdjustmentAsked, request_id: bytes
) -> AdjustmentView:
    """Make an adjustment, or let it wait for a second person if it is large. Raises a Problem (404, 409, 422)."""
    check_reach(actor, Permission.ACCOUNTS_WRITE)
    await check_account(office, account)
    expiry_day = _expiry_day(office, asked)
    now_ms = office.clock.now_ms()
    wanted = adjustments.Asked(
        account, asked.points, expiry_day, asked.reason, request_id, "waiting", actor.name, actor.person, now_ms
    )
    async with office.registry.writing() as transaction:
        # Many small ones are a large one.
        before = await adjustments.made_alone(transaction, wanted, now_ms - _DAY_MS)
        if before + abs(asked.points) <= office.limits.adjust_alone_points_max:
            wanted = replace(wanted, state="approved")
        row = await adjustments.add(transaction, wanted)
        if row["state"] == "waiting":
            await audited(
                office, actor, transaction, "adjustment.ask", f"adjustment:{row['adjustment_id']}", account=account,
                detail={"points": asked.points, "reason": asked.reason},
            )  # fmt: skip
    if row["state"] == "declined":
        raise conflict("this was asked for before and declined: ask again with another Idempotency-Key")
    if row["state"] == "approved":
        await _make(office, actor, row)
    return await _view(office, row["adjustment_id"])


def _expiry_day(office: Office, asked: AdjustmentAsked) -> int:
    today = office.desk.today()
    if asked.network_id is not None:
        network = office.programme.networks.get(asked.network_id)
        if network is None:
            raise not_found(f"network {asked.network_id}")
        return network.rules_at(office.clock.now_ms()).earning_days(today)[1]
    if asked.expiry_day is None:
        return 0
    try:
        day = day_of(asked.expiry_day)
    except ValueError:
        raise invalid("expiry_day is no date of the form 2026-12-31") from None
    if not today <= day < 2**24:
        raise invalid("expiry_day lies in the past, or too far ahead")
    return day


async def listed(
    office: Office, actor: Actor, position: Position, state: State | None = "waiting", account: int | None = None
) -> Page[AdjustmentView]:
    """Return adjustments, newest first."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    async with office.registry.reading() as transaction:
        rows = await adjustments.listed(transaction, position.number(_BIGGEST_ID), state, account, position.rows_max)
    return position.page(rows, AdjustmentView.of, lambda row: (row["adjustment_id"],))


async def adjustment_of(office: Office, actor: Actor, adjustment_id: int) -> AdjustmentView:
    """Return one adjustment. Raises a Problem (404)."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    return await _view(office, adjustment_id)


async def approve(office: Office, actor: Actor, adjustment_id: int) -> AdjustmentView:
    """Approve what somebody else asked for, and make it. Raises a Problem (403, 404, 409)."""
    row = await _decided(office, actor, adjustment_id, "approved")
    await _make(office, actor, row)
    return await _view(office, adjustment_id)


async def decline(office: Office, actor: Actor, adjustment_id: int) -> AdjustmentView:
    """Decline what somebody else asked for. Raises a Problem (403, 404, 409)."""
    await _decided(office, actor, adjustment_id, "declined")
    return await _view(office, adjustment_id)


async def _decided(office: Office, actor: Actor, adjustment_id: int, state: State) -> Row:
    check_reach(actor, Permission.ADJUSTMENTS_APPROVE)
    async with office.registry.writing() as transaction:
        row = await adjustments.for_change(transaction, adjustment_id)
        if row is None:
            raise not_found(f"adjustment {adjustment_id}")
        if row["asked_person"] == actor.person:
            raise forbidden(
                "this needs a second person: whoever asked for it cannot decide on it, with whichever token"
            )
        if row["state"] == "waiting":
            await adjustments.decide(
                transaction, adjustment_id, state, actor=actor.name, person=actor.person, now_ms=office.clock.now_ms()
            )
            verb = "approve" if state == "approved" else "decline"
            await audited(
                office, actor, transaction, f"adjustment.{verb}", f"adjustment:{adjustment_id}",
                account=row["account_id"], detail={"points": row["points"], "asked_by": row["asked_by"]},
            )  # fmt: skip
        elif row["decided_by"] != actor.name or (row["state"] == "declined") != (state == "declined"):
            raise conflict(f"the adjustment is {row['state']} already")
    return row


async def _make(office: Office, actor: Actor, row: Row) -> None:
    """Let the ledger make an approved adjustment; what was made before is not made again."""
    account, points, request_id = row["account_id"], row["points"], row["request_id"]
    detail = {"points": points, "reason": row["reason"], "adjustment": row["adjustment_id"]}
    if row["asked_by"] != actor.name:
        detail["asked_by"] = row["asked_by"]
    deed = Deed("account.adjust", f"account:{account}", request_id, account, detail=detail)
    reference = f"adjustment {row['adjustment_id']}"
    try:
        await do(
            office, actor, deed, lambda: office.desk.adjust(request_id, account, points, row["expiry_day"], reference)
        )
    except Problem as problem:
        if "outcome" in problem.body:
            await _settle(office, row["adjustment_id"], "declined")
        raise
    await _settle(office, row["adjustment_id"], "done")


async def _settle(office: Office, adjustment_id: int, state: State) -> None:
    async with office.registry.writing() as transaction:
        await adjustments.settle(transaction, adjustment_id, state)


async def finish_approved(office: Office, *, grace_ms: int = _GRACE_MS) -> int:
    """Make the adjustments that were approved and then not heard of; return how many. To be called now and then.

    Those of the last `grace_ms` are left to whoever is at them; it would do no harm if both did it. Raises JournalDown.
    """
    async with office.registry.reading() as transaction:
        rows = await adjustments.approved(transaction, office.clock.now_ms() - grace_ms, _SWEPT_MAX)
    made = 0
    for row in rows:
        try:
            await _make(office, _SYSTEM, row)
        except (Problem, Undecided, Conflict, JournalDown) as error:
            log.warning("adjustment not made", adjustment=row["adjustment_id"], reason=str(error))
        else:
            made += 1
    return made


async def _view(office: Office, adjustment_id: int) -> AdjustmentView:
    async with office.registry.reading() as transaction:
        row = await adjustments.adjustment(transaction, adjustment_id)
    if row is None:
        raise not_found(f"adjustment {adjustment_id}")
    return AdjustmentView.of(row)
