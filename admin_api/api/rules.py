"""Rules of networks in versions, a preview of what they would do, and the programme's time zone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from admin_api.fields import BigId, Id
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.programme import programme, rules
from admin_api.programme.programme import TimeZone, TimeZoneAsked
from admin_api.programme.rules import NewRules, Rollback, RulesVersion, SavedRules
from admin_api.programme.rules_preview import Preview, PreviewAsked, preview
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1", tags=["rules"], responses=PROBLEMS)

Reading = Annotated[Actor, Depends(acting(Permission.RULES_READ))]
Writing = Annotated[Actor, Depends(acting(Permission.RULES_WRITE))]
Deciding = Annotated[Actor, Depends(acting(Permission.COALITION_WRITE))]


@router.get("/networks/{network_id}/rules", summary="The rules in force.")
async def current_rules(office: InOffice, actor: Reading, network_id: Id) -> RulesVersion:
    """Its `version` is null for a network that never had any and lives by the defaults."""
    return await rules.current_rules(office, actor, network_id)


@router.post("/networks/{network_id}/rules", summary="Save new rules.", status_code=201, response_model=SavedRules)
async def save_rules(
    office: InOffice, actor: Writing, key: IdempotencyKey, network_id: Id, asked: NewRules
) -> JSONResponse:
    """They hold from now or later on, in all workers within a second; what is left out stays as it is."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await rules.save_rules(office, actor, network_id, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.post(
    "/networks/{network_id}/rules/preview", summary="What would these rules do to a receipt?", response_model=Preview
)
async def preview_rules(
    office: InOffice, actor: Reading, _key: IdempotencyKey, network_id: Id, asked: PreviewAsked
) -> Preview:
    """Decided by the ledger's own decision, on a made-up member. Nothing is saved."""
    return await preview(office, actor, network_id, asked)


@router.get("/networks/{network_id}/rules/versions", summary="All versions of the rules, newest first.")
async def rules_versions(office: InOffice, actor: Reading, network_id: Id, position: Cursor) -> Page[RulesVersion]:
    """Who saved what, when, and when it is or was in force."""
    return await rules.rules_versions(office, actor, network_id, position)


@router.get("/networks/{network_id}/rules/versions/{version}", summary="One version of the rules.")
async def rules_version(office: InOffice, actor: Reading, network_id: Id, version: BigId) -> RulesVersion:
    """As it was saved."""
    return await rules.rules_version(office, actor, network_id, version)


@router.post(
    "/networks/{network_id}/rules/versions/{version}/withdraw",
    summary="Take back rules that are not in force yet.",
    response_model=RulesVersion,
)
async def withdraw_rules(
    office: InOffice, actor: Writing, key: IdempotencyKey, network_id: Id, version: BigId
) -> JSONResponse:
    """Keep the version to be seen, as withdrawn."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await rules.withdraw_rules(office, actor, network_id, version))

    return await once_in_registry(office, actor, key, {}, work)


@router.post(
    "/networks/{network_id}/rules/versions/{version}/rollback",
    summary="Let older rules hold again from now on.",
    status_code=201,
    response_model=SavedRules,
)
async def roll_back(
    office: InOffice, actor: Writing, key: IdempotencyKey, network_id: Id, version: BigId, asked: Rollback
) -> JSONResponse:
    """Make a new version with the content of an older one, which `copy_of` names."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await rules.roll_back(office, actor, network_id, version, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.get("/programme/time-zone", summary="The time zone in which days begin and end.")
async def time_zone(office: InOffice, actor: Reading) -> TimeZone:
    """Return what holds for all networks."""
    return await programme.time_zone(office, actor)


@router.put("/programme/time-zone", summary="Change the programme's time zone.")
async def set_time_zone(office: InOffice, actor: Deciding, asked: TimeZoneAsked) -> TimeZone:
    """Read the `warning` of the GET first."""
    return await programme.set_time_zone(office, actor, asked)
