from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from admin_api.figures.figure_steps import STEPS_MAX
from admin_api.security.permissions import Permission
from ledger.clock import SystemClock
from tests.rigs.figures_demo import fill
from tests.rigs.office_rig import OfficeRig

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture(scope="session")
def figures_template(make_template: Callable[[str, Callable[[Any], Awaitable[None]]], str]) -> str:
    """Make a database with five days of figures, trouble half an hour ago, once."""

    async def gathered(db: Any) -> None:
        await fill(db, SystemClock().now_ms(), 5, stores={1: (1, 0.7), 2: (2, 0.3)}, trouble_ms=1_800_000)

    return make_template("two_partners", gathered)


@pytest.fixture
async def chain(databases: Callable[[str], str], figures_template: str, valkey_url: str) -> AsyncIterator[OfficeRig]:
    """A second partner with a network and store of its own, and figures of both."""
    async with OfficeRig(databases(figures_template), valkey_url).running() as rig:
        db = await asyncpg.connect(rig.postgres_url)
        await db.execute(
            """INSERT INTO partner (name) VALUES ('Other');
            INSERT INTO network (partner_id, name, currency) VALUES (2, 'Fuel', 'USD');
            INSERT INTO store (network_id, name) VALUES (2, 'Road 1')"""
        )
        await db.close()
        yield rig
        await rig.verify()


async def figures(rig: OfficeRig, period_ms: int, partner_id: int | None = None, **more: int) -> dict[str, dict]:  # type: ignore[type-arg]
    now_ms = rig.clock.now_ms()
    async with rig.client(Permission.FIGURES_READ, partner_id=partner_id) as client:
        answer = await client.get("/v1/figures", params={"from_ms": now_ms - period_ms, "to_ms": now_ms, **more})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert all(len(s["values"]) <= STEPS_MAX for s in body["series"])
    return {s["code"] or s["name"]: s for s in body["series"]} | {"": body}


@pytest.mark.parametrize("period_ms", [900_000, HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS])
async def test_every_period_of_the_dashboard_has_its_series(chain: OfficeRig, period_ms: int) -> None:
    found = await figures(chain, period_ms)
    for name in ("answers_per_s", "approvals", "declines", "issued", "spent", "expired", "receipts", "p50_ms", "p99_ms",
                 "queue", "lag_ms", "outstanding", "cards_issued", "insufficient"):  # fmt: skip
        assert any(value is not None for value in found[name]["values"]), name
    assert found[""]["currency"] is None, "two currencies have no average"
    assert "average_receipt" not in found


async def test_a_figure_that_leaves_its_band_is_marked_and_the_others_are_not(chain: OfficeRig) -> None:
    found = await figures(chain, HOUR_MS)
    assert found["p99_ms"]["basis"] == "days"
    assert {mark["side"] for mark in found["p99_ms"]["marks"]} == {"above"}
    assert found["approvals"]["marks"] == []


async def test_the_sum_of_the_steps_is_what_was_counted(chain: OfficeRig) -> None:
    found = await figures(chain, DAY_MS)
    body = found[""]
    db = await asyncpg.connect(chain.postgres_url)
    span = (body["from_ms"] // 60_000, body["to_ms"] // 60_000)
    answers = await db.fetchval("SELECT sum(count) FROM office.tally WHERE minute >= $1 AND minute < $2", *span)
    issued = await db.fetchval("SELECT sum(earned) FROM office.flow WHERE minute >= $1 AND minute < $2", *span)
    await db.close()
    assert sum(found["approvals"]["values"]) + sum(found["declines"]["values"]) == answers
    assert sum(found["issued"]["values"]) == issued
    codes = [s for s in body["series"] if s["name"] == "declines_by_code"]
    assert sum(sum(s["values"]) for s in codes) == sum(found["declines"]["values"])


async def test_a_partner_sees_its_own_stores_and_nothing_of_the_process(chain: OfficeRig) -> None:
    whole, own = await figures(chain, DAY_MS), await figures(chain, DAY_MS, partner_id=1)
    other = await figures(chain, DAY_MS, network_id=2)
    assert sum(own["receipts"]["values"]) + sum(other["receipts"]["values"]) == sum(whole["receipts"]["values"])
    assert not {"p99_ms", "lag_ms", "queue", "outstanding", "cards_issued"} & set(own)
    assert own[""]["currency"] == "EUR"
    now_ms = chain.clock.now_ms()
    async with chain.client(Permission.FIGURES_READ, partner_id=1) as client:
        for query in ({"network_id": 2}, {"store_id": 2}):
            asked = {"from_ms": now_ms - HOUR_MS, "to_ms": now_ms, **query}
            assert (await client.get("/v1/figures", params=asked)).status_code == 404
            assert (await client.get("/v1/figures/now", params=query)).status_code == 404
        answer = (await client.get("/v1/figures/now")).json()
        assert (answer["process"], answer["standing"]) == (None, None)


async def test_the_latest_figures(chain: OfficeRig) -> None:
    async with chain.client(Permission.FIGURES_READ) as client:
        answer = (await client.get("/v1/figures/now")).json()
    assert answer["approvals"] > 0
    assert answer["declines"] == sum(answer["declines_by_code"].values())
    assert answer["process"]["p99_ms"] > 0
    assert answer["standing"]["accounts"] == 512_340


async def test_an_empty_installation_has_series_without_values(rig: OfficeRig) -> None:
    found = await figures(rig, HOUR_MS)
    assert all(value in (None, 0) for value in found["approvals"]["values"])
    async with rig.client(Permission.FIGURES_READ) as client:
        answer = (await client.get("/v1/figures/now")).json()
    assert (answer["process"], answer["standing"], answer["approvals"]) == (None, None, 0)


@pytest.mark.parametrize("from_ms", [0, 32_503_680_000_000 - DAY_MS])
async def test_a_period_without_figures_is_answered(rig: OfficeRig, from_ms: int) -> None:
    async with rig.client(Permission.FIGURES_READ) as client:
        answer = await client.get("/v1/figures", params={"from_ms": from_ms, "to_ms": from_ms + DAY_MS})
    assert answer.status_code == 200
    assert all(value in (None, 0) for series in answer.json()["series"] for value in series["values"])


async def test_a_period_that_makes_no_sense_is_refused(rig: OfficeRig) -> None:
    async with rig.client(Permission.FIGURES_READ) as client:
        for query in (
            {"from_ms": 5, "to_ms": 5},
            {"from_ms": 0, "to_ms": 500 * DAY_MS},
            {"from_ms": 0, "to_ms": DAY_MS, "step_ms": 7},
        ):
            assert (await client.get("/v1/figures", params=query)).status_code == 400
    async with rig.client(Permission.CARDS_READ) as client:
        assert (await client.get("/v1/figures/now")).status_code == 403
