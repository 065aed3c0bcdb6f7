import asyncio
from typing import Any

import httpx
import pytest

from admin_api.coalition.relays import SILENT_AFTER_MS
from admin_api.security.permissions import ROLES, Permission, Role
from protocol.codes import Message
from protocol.relay_keys import RelayCredential, relay_key
from tests.rigs.office_rig import EVERYTHING, RELAY_MASTER, OfficeRig

NEW = {"store_id": 1, "code": "relay-1", "allowance_points": 5_000, "allowance_ms": 3_600_000}


async def post(rig: OfficeRig, client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> Any:
    answer = await client.post(path, json=body, headers=rig.key())
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def refused(rig: OfficeRig, client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> str:
    answer = await client.post(path, json=body, headers=rig.key())
    assert answer.status_code == 409, answer.text
    return str(answer.json()["detail"])


async def version(rig: OfficeRig) -> int:
    async with rig.registry.reading() as transaction:
        return int(await transaction.fetchval("SELECT version FROM programme"))


async def told(rig: OfficeRig, relay_id: int, **values: int) -> None:
    """Note what a bridge would note of a relay."""
    async with rig.registry.writing() as transaction:
        for name, value in values.items():
            await transaction.execute(f"UPDATE relay SET {name} = $2 WHERE terminal_id = $1", relay_id, value)  # noqa: S608


async def other_store(rig: OfficeRig, owner: httpx.AsyncClient) -> int:
    body = {
        "partner": {"name": "Other"}, "network": {"name": "Others", "currency": "EUR"},
        "stores": [{"name": "Far Away"}],
    }  # fmt: skip
    return int((await post(rig, owner, "/v1/partners/onboard", body))["stores"][0]["store_id"])


async def test_a_store_gets_a_relay_whose_credential_is_the_key_that_bridges_derive(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await post(rig, client, "/v1/relays", NEW)
        credential = RelayCredential.parse(made["credential"])
        assert (credential.network, credential.store, credential.code, credential.generation) == (
            "1",
            "1",
            "relay-1",
            1,
        )
        assert credential.key == relay_key(RELAY_MASTER, "relay-1", 1)
        assert (await client.get(f"/v1/relays/{made['relay_id']}")).json() == {
            "relay_id": made["relay_id"], "code": "relay-1", "store_id": 1, "store": "Mill Street", "network_id": 1,
            "network": "Harvest Market", "partner_id": 1, "state": "active", "works": True, "revoked_ms": None,
            "generation": 1, "allowance_points": 5_000, "allowance_ms": 3_600_000, "line": "never", "heard_ms": None,
            "software": "", "queued": None, "oldest_ms": None, "offline_since_ms": None, "conflicts": 0,
        }  # fmt: skip
    terminal = (await rig.ledger.terminals(["relay-1"]))["relay-1"]
    assert terminal.permitted == {Message.HOLD, Message.RELEASE}


async def test_no_answer_but_the_first_and_its_repetition_tells_a_credential(rig: OfficeRig) -> None:
    key = rig.key()
    async with rig.client() as client:
        first = await client.post("/v1/relays", json=NEW, headers=key)
        again = await client.post("/v1/relays", json=NEW, headers=key)
        assert first.json() == again.json()
        secret = first.json()["credential"].rpartition("/")[2]
        relay = first.json()["relay_id"]
        for path in ("/v1/relays", f"/v1/relays/{relay}", "/v1/terminals", f"/v1/terminals/{relay}", "/v1/audit"):
            text = (await client.get(path)).text
            assert secret not in text
            assert "credential" not in text
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT r::text, t::text FROM relay r JOIN terminal t USING (terminal_id)")
        key_bytes = RelayCredential.parse(first.json()["credential"]).key
        assert all(key_bytes.hex() not in text for row in rows for text in row)


async def test_a_rotated_relay_has_another_key_under_the_next_generation(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await post(rig, client, "/v1/relays", NEW)
        key = rig.key()
        path = f"/v1/relays/{made['relay_id']}/rotate"
        rotated = (await client.post(path, headers=key)).json()
        assert (await client.post(path, headers=key)).json() == rotated, "a lost answer is told again"
        credential = RelayCredential.parse(rotated["credential"])
        assert (credential.code, credential.generation) == ("relay-1", 2)
        assert credential.key == relay_key(RELAY_MASTER, "relay-1", 2)
        assert credential.key != RelayCredential.parse(made["credential"]).key
        assert (await client.get(f"/v1/relays/{made['relay_id']}")).json()["generation"] == 2


async def test_allowances_are_changed_one_by_one(rig: OfficeRig) -> None:
    async with rig.client() as client:
        relay = (await post(rig, client, "/v1/relays", NEW))["relay_id"]
        changed = (await client.patch(f"/v1/relays/{relay}", json={"allowance_points": 0})).json()
        assert (changed["allowance_points"], changed["allowance_ms"]) == (0, 3_600_000)
        changed = (await client.patch(f"/v1/relays/{relay}", json={"allowance_ms": 60_000})).json()
        assert (changed["allowance_points"], changed["allowance_ms"]) == (0, 60_000)
        wrong: list[dict[str, Any]] = [
            {"allowance_points": -1}, {"allowance_points": 100_000_000_001}, {"allowance_ms": 59_999},
            {"allowance_ms": 604_800_001}, {"allowance_points": 1.5}, {"generation": 7},
        ]  # fmt: skip
        for asked in wrong:
            assert (await client.patch(f"/v1/relays/{relay}", json=asked)).status_code == 422


async def test_the_programme_moves_on_with_what_bridges_must_hear_and_not_with_what_relays_tell(rig: OfficeRig) -> None:
    async with rig.client() as client:
        seen = [await version(rig)]

        async def grew() -> bool:
            seen.append(await version(rig))
            return seen[-1] > seen[-2]

        relay = (await post(rig, client, "/v1/relays", NEW))["relay_id"]
        assert await grew(), "a relay was added"
        await client.patch(f"/v1/relays/{relay}", json={"allowance_points": 1})
        assert await grew(), "its allowance was changed"
        await post(rig, client, f"/v1/relays/{relay}/rotate")
        assert await grew(), "its key was changed"
        for act in ("suspend", "resume"):
            await post(rig, client, f"/v1/terminals/{relay}/{act}")
            assert await grew(), act
        await post(rig, client, "/v1/terminals", {"store_id": 1, "code": "till-2", "permitted": ["sale"]})
        assert await grew(), "a register stands beside it"
        await told(rig, relay, heard_ms=1, queued=2, oldest_ms=3, offline_since_ms=4)
        assert not await grew(), "it told how it is"
        far = await other_store(rig, client)
        await grew()
        await post(rig, client, "/v1/terminals", {"store_id": far, "code": "far-1", "permitted": ["sale"]})
        assert not await grew(), "a register of a store without a relay"


async def test_a_relay_is_no_cash_register(rig: OfficeRig) -> None:
    async with rig.client() as client:
        relay = (await post(rig, client, "/v1/relays", NEW))["relay_id"]
        assert "is a relay" in await refused(rig, client, f"/v1/terminals/{relay}/rotate")
        answer = await client.patch(f"/v1/terminals/{relay}", json={"permitted": ["sale"]})
        assert (answer.status_code, "is a relay" in answer.text) == (409, True)
        rotated = await post(rig, client, "/v1/stores/1/terminals/rotate")
        assert [one["code"] for one in rotated["terminals"]] == ["till-1"]
        terminals = (await client.get("/v1/terminals")).json()["items"]
        assert [(one["code"], one["relay"]) for one in terminals] == [("till-1", False), ("relay-1", True)]
        for wanted, codes in (("true", ["relay-1"]), ("false", ["till-1"])):
            found = (await client.get("/v1/terminals", params={"relay": wanted})).json()["items"]
            assert [one["code"] for one in found] == codes
        for path in ("stores", "networks", "partners"):
            assert (await client.get(f"/v1/{path}/1")).json()["terminals"] == 1, path
    terminal = (await rig.ledger.terminals(["relay-1"]))["relay-1"]
    assert terminal.permitted == {Message.HOLD, Message.RELEASE}


async def test_a_relay_is_suspended_resumed_and_revoked_like_a_terminal(rig: OfficeRig) -> None:
    async with rig.client() as client:
        relay = (await post(rig, client, "/v1/relays", NEW))["relay_id"]

        async def state() -> tuple[str, bool]:
            found = (await client.get(f"/v1/relays/{relay}")).json()
            return found["state"], found["works"]

        await post(rig, client, f"/v1/terminals/{relay}/suspend")
        assert await state() == ("suspended", False)
        await post(rig, client, f"/v1/terminals/{relay}/resume")
        assert await state() == ("active", True)
        await post(rig, client, "/v1/stores/1/terminals/suspend")
        assert await state() == ("suspended", False)
        await post(rig, client, f"/v1/terminals/{relay}/revoke")
        assert await state() == ("revoked", False)
        assert "revoked" in await refused(rig, client, f"/v1/relays/{relay}/rotate")
        answer = await client.patch(f"/v1/relays/{relay}", json={"allowance_points": 1})
        assert (answer.status_code, "revoked" in answer.text) == (409, True)


async def test_a_store_has_one_relay_until_that_is_revoked(rig: OfficeRig) -> None:
    async with rig.client() as client:
        bodies = [{**NEW, "code": f"relay-{number}"} for number in range(4)]
        answers = await asyncio.gather(*(client.post("/v1/relays", json=b, headers=rig.key()) for b in bodies))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        made = next(answer.json() for answer in answers if answer.status_code == 201)
        assert f"has the relay {made['code']}" in await refused(rig, client, "/v1/relays", {**NEW, "code": "another"})
        await post(rig, client, f"/v1/terminals/{made['relay_id']}/revoke")
        assert "taken" in await refused(rig, client, "/v1/relays", {**NEW, "code": made["code"]})
        await post(rig, client, "/v1/relays", {**NEW, "code": "another"})
        assert "taken" in await refused(
            rig, client, "/v1/terminals", {"store_id": 1, "code": "another", "permitted": []}
        )


async def test_relays_are_listed_by_where_they_stand_and_whether_they_are_heard(rig: OfficeRig) -> None:
    async with rig.client() as client:
        relay = (await post(rig, client, "/v1/relays", NEW))["relay_id"]
        far = await other_store(rig, client)
        other = (await post(rig, client, "/v1/relays", {"store_id": far, "code": "far-relay"}))["relay_id"]

        async def codes(**query: Any) -> list[str]:
            return [one["code"] for one in (await client.get("/v1/relays", params=query)).json()["items"]]

        async def lines() -> list[str]:
            return [one["line"] for one in (await client.get("/v1/relays")).json()["items"]]

        assert await codes() == ["relay-1", "far-relay"]
        assert (await codes(store_id=far), await codes(partner_id=1)) == (["far-relay"], ["relay-1"])
        assert (await codes(text="far a"), await codes(text="LAY-1")) == (["far-relay"], ["relay-1"])
        page = (await client.get("/v1/relays", params={"limit": 1})).json()
        assert await codes(cursor=page["next"]) == ["far-relay"]
        assert await codes(silent=True) == ["relay-1", "far-relay"], "they were never heard"
        now_ms = rig.clock.now_ms()
        await told(rig, relay, heard_ms=now_ms, queued=0)
        await told(rig, other, heard_ms=now_ms - SILENT_AFTER_MS - 1)
        assert await lines() == ["up", "silent"]
        assert await codes(silent=True) == ["far-relay"]
        await post(rig, client, f"/v1/terminals/{other}/suspend")
        assert await codes(silent=True) == [], "one that is suspended is not missed"


async def test_every_change_leaves_an_entry_that_tells_store_and_partner_and_no_key(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await post(rig, client, "/v1/relays", NEW)
        await client.patch(f"/v1/relays/{made['relay_id']}", json={"allowance_points": 1})
        rotated = await post(rig, client, f"/v1/relays/{made['relay_id']}/rotate")
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT * FROM office.audit ORDER BY audit_id")
    assert [row["action"] for row in rows] == ["relay.add", "relay.change", "relay.rotate"]
    assert {(row["subject"], row["partner_id"], row["store_id"]) for row in rows} == {
        (f"relay:{made['relay_id']}", 1, 1)
    }
    for credential in (made["credential"], rotated["credential"]):
        assert all(credential.rpartition("/")[2] not in row["detail"] for row in rows)


async def test_what_is_refused_leaves_no_entry_and_no_half_a_relay(rig: OfficeRig) -> None:
    async with rig.client() as client:
        assert (await client.post("/v1/relays", json={**NEW, "store_id": 77}, headers=rig.key())).status_code == 404
        assert (await client.post("/v1/relays", json={**NEW, "code": "a b"}, headers=rig.key())).status_code == 422
        assert (await client.post("/v1/relays", json={**NEW, "code": "till-1"}, headers=rig.key())).status_code == 409
        assert (await client.post("/v1/relays", json=NEW)).status_code == 400
        assert (await client.get("/v1/relays/1")).status_code == 404, "a cash register is no relay"
        assert (await client.post("/v1/relays/1/rotate", headers=rig.key())).status_code == 404
    async with rig.client(Permission.COALITION_READ) as client:
        assert (await client.post("/v1/relays", json=NEW, headers=rig.key())).status_code == 403
    async with rig.registry.reading() as transaction:
        counts = (
            "SELECT (SELECT count(*) FROM terminal), (SELECT count(*) FROM relay), (SELECT count(*) FROM office.audit)"
        )
        assert tuple(await transaction.fetchrow(counts)) == (1, 0, 0)


@pytest.mark.parametrize("permissions", [EVERYTHING, ROLES[Role.PARTNER]], ids=["program", "partner"])
async def test_a_partners_people_reach_their_own_relays_only(
    rig: OfficeRig, permissions: frozenset[Permission]
) -> None:
    async with rig.client() as owner:
        own = (await post(rig, owner, "/v1/relays", NEW))["relay_id"]
        far = await other_store(rig, owner)
        relay = (await post(rig, owner, "/v1/relays", {"store_id": far, "code": "far-relay"}))["relay_id"]
    async with rig.client(*permissions, partner_id=1) as client:
        assert [one["relay_id"] for one in (await client.get("/v1/relays")).json()["items"]] == [own]
        assert (await client.get("/v1/relays", params={"partner_id": 2})).status_code == 404
        assert (await client.get("/v1/relays", params={"store_id": far})).json()["items"] == []
        assert (await client.get(f"/v1/relays/{relay}")).status_code == 404
        assert (await client.patch(f"/v1/relays/{relay}", json={"allowance_points": 1})).status_code == 404
        assert (await client.post(f"/v1/relays/{relay}/rotate", headers=rig.key())).status_code == 404
        body = {"store_id": far, "code": "mine"}
        assert (await client.post("/v1/relays", json=body, headers=rig.key())).status_code == 404
        assert (await client.post(f"/v1/relays/{own}/rotate", headers=rig.key())).status_code == 200
