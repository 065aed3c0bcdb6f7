"""The start page: the latest figures, and plots of a chosen period, network and store."""

from __future__ import annotations

from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response

from admin_api.coalition import conflicts
from admin_api.console.dashboard_plots import dashboard_plots
from admin_api.console.plots import Plot
from admin_api.console.rendering import page
from admin_api.console.tiles import tiles
from admin_api.console.visitor import Visitor, seen, visiting
from admin_api.figures import figures
from admin_api.figures.figure_steps import Asked
from admin_api.office import Office
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from ledger.registry import figures as kept
from ledger.registry.registry import Row

router = APIRouter()
Looking = Annotated[Visitor, Depends(visiting(Permission.FIGURES_READ))]


class Period(NamedTuple):
    """A period to choose: how long it is, and how often its plots are drawn anew."""

    ms: int
    every_s: int


PERIODS = {
    "15m": Period(900_000, 10),
    "1h": Period(3_600_000, 15),
    "24h": Period(86_400_000, 60),
    "7d": Period(7 * 86_400_000, 300),
    "30d": Period(30 * 86_400_000, 600),
}
_DEFAULT = "1h"

Chosen = Annotated[str, Query(alias="period")]
# Forms send an empty field where all are meant.
Number = Annotated[str, Query(pattern=r"^\d{0,9}$")]


@router.get("/")
async def show(
    visitor: Looking, office: InOffice, period: Chosen = _DEFAULT, network: Number = "", store: Number = ""
) -> Response:
    """Show the dashboard, or, while nothing has happened, what to do first."""
    partner_id = seen(visitor).partner_id
    async with office.registry.reading() as transaction:
        places = await kept.places(transaction, partner_id)
        begun = await kept.beginnings(transaction)
    if not begun["entries"] and partner_id is None:
        return page(visitor, "first_steps.html", begun=begun, registers_at=office.registers_at)
    chosen = {"period": period if period in PERIODS else _DEFAULT, "network": network, "store": store}
    now = await figures.now(office, seen(visitor), _id(network), _id(store))
    return page(
        visitor,
        "dashboard.html",
        networks=_networks(places),
        periods=PERIODS,
        every_s=PERIODS[chosen["period"]].every_s,
        chosen=chosen,
        query=urlencode({name: value for name, value in chosen.items() if value}),
        place_query=urlencode({name: chosen[name] for name in ("network", "store") if chosen[name]}),
        tiles=tiles(visitor.words, now),
        conflicts=await _conflicts(visitor, office),
        now_ms=now["at_ms"],
        plots=await _plots(visitor, office, **chosen),
    )


@router.get("/dashboard/now")
async def live_tiles(visitor: Looking, office: InOffice, network: Number = "", store: Number = "") -> Response:
    """Return the tiles, which are fetched again and again."""
    now = await figures.now(office, seen(visitor), _id(network), _id(store))
    return page(
        visitor, "dashboard_now.html", tiles=tiles(visitor.words, now), conflicts=await _conflicts(visitor, office),
        now_ms=now["at_ms"],
    )  # fmt: skip


@router.get("/dashboard/plots")
async def live_plots(
    visitor: Looking, office: InOffice, period: Chosen = _DEFAULT, network: Number = "", store: Number = ""
) -> Response:
    """Return the plots, which are fetched again and again."""
    return page(visitor, "dashboard_plots.html", plots=await _plots(visitor, office, period, network, store))


async def _conflicts(visitor: Visitor, office: Office) -> int:
    """Return how many conflicts wait for somebody who may see them."""
    return await conflicts.count_open(office, seen(visitor)) if visitor.may(Permission.COALITION_READ) else 0


async def _plots(visitor: Visitor, office: Office, period: str, network: str, store: str) -> list[Plot]:
    now_ms = office.clock.now_ms()
    begin_ms = now_ms - PERIODS.get(period, PERIODS[_DEFAULT]).ms
    found = await figures.series(office, seen(visitor), Asked(begin_ms, now_ms, 0, _id(network), _id(store)))
    return dashboard_plots(visitor.words, office.programme.days.utc_offset_ms(now_ms), found)


def _id(number: str) -> int | None:
    return int(number) if number else None


def _networks(places: list[Row]) -> dict[int, tuple[str, list[tuple[int, str]]]]:
    """Return networks by id: the name, and its stores."""
    networks: dict[int, tuple[str, list[tuple[int, str]]]] = {}
    for row in places:
        stores = networks.setdefault(row["network_id"], (row["network"], []))[1]
        if row["store_id"] is not None:
            stores.append((row["store_id"], row["store"]))
    return networks
