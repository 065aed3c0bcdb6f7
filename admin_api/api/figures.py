"""Live figures and figures of a period, with the band in which each one usually lies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from admin_api.figures import figures
from admin_api.figures.figure_steps import Asked
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1/figures", tags=["figures"])
#: The year 3000: there is a day after it in every time zone.
_MS_MAX = 32_503_680_000_000

Reader = Annotated[Actor, Depends(acting(Permission.FIGURES_READ))]
NetworkId = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only this network.")]
StoreId = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only this store.")]


class LeftBand(BaseModel):
    """A run of steps in which a figure lay outside its usual band: from, until, and its most distant value."""

    from_ms: int
    until_ms: int
    value: float | int
    low: float | int
    high: float | int
    side: Literal["above", "below"]


class FigureSeries(BaseModel):
    """One figure by step; a null was not measured, or is not known yet.

    `code` is the outcome of `declines_by_code`. `low` and `high` are the usual band of each step: median and four
    median absolute deviations of the same time of day (`basis` "days"), or of the three hours before ("hours").
    """

    name: str
    code: str | None
    unit: Literal["per_s", "count", "points", "amount", "ms"]
    from_ms: int
    step_ms: int
    values: list[int | float | None]
    low: list[int | float | None] | None
    high: list[int | float | None] | None
    basis: Literal["days", "hours"] | None
    marks: list[LeftBand]


class FiguresAnswer(BaseModel):
    """Every figure of a period; only complete steps. `currency` is that of money, null where there are several."""

    from_ms: int
    to_ms: int
    step_ms: int
    currency: str | None
    series: list[FigureSeries]


class ProcessFigures(BaseModel):
    """What the server measured in the last seconds; latencies are null while nothing is asked."""

    at_ms: int
    answers_per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    queue: float
    lag_ms: float
    connections: float
    standby: float


class Standing(BaseModel):
    """The sums of all accounts and cards, as of `at_ms`; points are minor units."""

    at_ms: int
    accounts: int
    balance: int
    held: int
    owed: int
    cards_issued: int
    cards_active: int


class FiguresNow(BaseModel):
    """The latest figures; answers are those of the last `recent_ms`."""

    at_ms: int
    recent_ms: int
    approvals: int
    declines: int
    declines_by_code: dict[str, int]
    process: ProcessFigures | None
    standing: Standing | None


@router.get("", summary="Figures of a period", response_model=FiguresAnswer, responses=PROBLEMS)
async def read_figures(
    actor: Reader,
    office: InOffice,
    from_ms: Annotated[int, Query(ge=0, le=_MS_MAX, description="Begin, ms since 1970 UTC.")],
    to_ms: Annotated[int, Query(ge=0, le=_MS_MAX, description="End, ms since 1970 UTC; at most 400 days later.")],
    step_ms: Annotated[int, Query(ge=0, le=86_400_000, description="0: chosen by the length of the period.")] = 0,
    network_id: NetworkId = None,
    store_id: StoreId = None,
) -> dict[str, Any]:
    """Return every figure by step, with its usual band and marks where it leaves it.

    Figures of the whole process (latency, queue, lag, points outstanding, cards) come only unfiltered, and not to a
    partner's people.
    """
    return await figures.series(office, actor, Asked(from_ms, to_ms, step_ms, network_id, store_id))


@router.get("/now", summary="The latest figures", response_model=FiguresNow, responses=PROBLEMS)
async def read_figures_now(
    actor: Reader, office: InOffice, network_id: NetworkId = None, store_id: StoreId = None
) -> dict[str, Any]:
    """Return what was answered in the last minutes, what the process measures, and the sums of all accounts."""
    return await figures.now(office, actor, network_id, store_id)
