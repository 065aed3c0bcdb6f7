import json
from typing import Any

import pytest

from admin_api.security.permissions import Permission
from tests.rigs.office_rig import OfficeRig

WORKER = {
    "index": 0, "pid": 7, "state": "ready", "down": [],
    "detail": {
        "connections": 3, "accepting": True,
        "partitions": {
            "0": {"serving": True, "standby": True, "trouble": None, "backlog": 4, "lag_ms": 12},
            "1": {"serving": False, "standby": False, "trouble": None, "backlog": 0, "lag_ms": 0},
            "2": {"serving": False, "standby": False, "trouble": "PostgreSQL", "backlog": 0, "lag_ms": 0},
        },
    },
}  # fmt: skip
OTHER = {**WORKER, "index": 1, "detail": {
    "connections": 2, "accepting": True,
    "partitions": {
        "0": {"serving": False, "standby": False, "trouble": None, "backlog": 0, "lag_ms": 0},
        "1": {"serving": True, "standby": False, "trouble": None, "backlog": 1, "lag_ms": 3},
        "2": {"serving": False, "standby": False, "trouble": None, "backlog": 0, "lag_ms": 0},
    },
}}  # fmt: skip


@pytest.fixture
def told(rig: OfficeRig) -> dict[str, Any]:
    found = {"live": True, "ready": True, "state": "serving", "down": [], "restarts": 1, "workers": [WORKER, OTHER]}

    async def health() -> dict[str, Any]:
        return found

    rig.installation.health = health  # type: ignore[method-assign]
    return found


async def audit_actions(rig: OfficeRig) -> list[str]:
    async with rig.registry.reading() as transaction:
        return [row["action"] for row in await transaction.fetch("SELECT action FROM office.audit ORDER BY audit_id")]


async def test_live_puts_together_what_the_workers_say(rig: OfficeRig, told: dict[str, Any]) -> None:
    async with rig.client(Permission.OPERATIONS_READ) as client:
        live = (await client.get("/v1/operations/live")).json()
    assert (live["connections"], live["queued"], live["lag_ms"], live["standby"]) == (5, 5, 12, 1)
    assert [(p["number"], p["worker"], p["trouble"]) for p in live["partitions"]] == [
        (0, 0, None), (1, 1, None), (2, None, "PostgreSQL"),
    ]  # fmt: skip
    assert live["admin"] is None


async def test_a_supervisor_that_hangs_is_shown_as_such(rig: OfficeRig, told: dict[str, Any]) -> None:
    told.clear()
    told.update({"live": False, "ready": False, "state": "hung", "down": ["supervisor"], "workers": []})
    async with rig.client(Permission.OPERATIONS_READ) as client:
        live = (await client.get("/v1/operations/live")).json()
    assert (live["live"], live["state"], live["partitions"]) == (False, "hung", [])


async def test_events_are_the_live_figures(rig: OfficeRig, told: dict[str, Any]) -> None:
    async with rig.client(Permission.OPERATIONS_READ) as client:
        stream = await client.get("/v1/operations/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    name, data = stream.text.removesuffix("\n\n").split("\n")
    assert name == "event: live"
    assert json.loads(data.removeprefix("data: "))["connections"] == 5
    assert rig.app.state.streams == 0


async def test_too_many_streams_are_refused(rig: OfficeRig) -> None:
    rig.app.state.streams = rig.limits.streams_max
    async with rig.client(Permission.OPERATIONS_READ) as client:
        refused = await client.get("/v1/operations/events")
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")


async def test_a_drain_is_audited_and_done_once(rig: OfficeRig) -> None:
    key = rig.key()
    async with rig.client(Permission.OPERATIONS_WRITE) as client:
        first = await client.post("/v1/operations/drain", headers=key)
        again = await client.post("/v1/operations/drain", headers=key)
    assert (first.status_code, first.json()) == (202, {"state": "draining"})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert rig.installation.drained
    assert await audit_actions(rig) == ["installation.drain"]


async def test_an_installation_that_drains_is_not_told_again(rig: OfficeRig, told: dict[str, Any]) -> None:
    told["state"] = "draining"
    async with rig.client(Permission.OPERATIONS_WRITE) as client:
        assert (await client.post("/v1/operations/drain", headers=rig.key())).status_code == 202
    assert not rig.installation.drained


async def test_a_proof_is_begun_and_followed(rig: OfficeRig) -> None:
    async with rig.client() as client:
        begun = await client.post("/v1/operations/verify", headers=rig.key())
        found = await client.get("/v1/operations/verify")
    assert (begun.status_code, found.status_code, begun.json()) == (202, 200, found.json())
    assert await audit_actions(rig) == ["books.verify"]


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "live", Permission.OPERATIONS_READ),
        ("GET", "events", Permission.OPERATIONS_READ),
        ("GET", "verify", Permission.OPERATIONS_READ),
        ("POST", "drain", Permission.OPERATIONS_WRITE),
        ("POST", "verify", Permission.OPERATIONS_WRITE),
    ],
)
async def test_who_may_not_is_refused(rig: OfficeRig, method: str, path: str, permission: Permission) -> None:
    async def status(*permissions: Permission, **bound: Any) -> int:
        async with rig.client(*permissions, **bound) as client:
            headers = rig.key() if method == "POST" else {}
            return (await client.request(method, f"/v1/operations/{path}", headers=headers)).status_code

    assert await status(Permission.FIGURES_READ) == 403
    # The installation is not one partner's, whatever his token says.
    assert await status(permission, partner_id=1) == 403
    assert not rig.installation.drained
