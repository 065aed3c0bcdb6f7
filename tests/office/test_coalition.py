import asyncio
from typing import Any

import httpx
import pytest

from admin_api.security.permissions import Permission
from tests.rigs.office_rig import EVERYTHING, OfficeRig
from tests.rigs.signing_on import signs_on

ONBOARDING: dict[str, Any] = {
    "partner": {"name": "Corner Pharmacy"},
    "network": {"name": "Corner Pharmacies", "currency": "EUR", "rules": {"earn_rate_bp": 300, "expiry_days": 180}},
    "stores": [
        {"name": "Old Town", "terminals": [{"code": "old-1", "permitted": ["balance", "sale"]}]},
        {"name": "Station", "terminals": []},
    ],
}


async def onboarded(rig: OfficeRig, client: httpx.AsyncClient) -> Any:
    answer = await client.post("/v1/partners/onboard", json=ONBOARDING, headers=rig.key())
    assert answer.status_code == 201, answer.text
    return answer.json()


async def audits(rig: OfficeRig) -> list[str]:
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT action, subject FROM office.audit ORDER BY audit_id")
    return [f"{row['action']} {row['subject']}" for row in rows]


async def test_a_partner_comes_in_with_everything_and_its_terminal_signs_on(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await onboarded(rig, client)
        (terminal,) = made["stores"][0]["terminals"]
        assert await signs_on(rig.ledger, "old-1", terminal["secret"])
        assert not await signs_on(rig.ledger, "old-1", "guessed")
        network = (await client.get(f"/v1/networks/{made['network_id']}")).json()
        assert (network["partner"], network["currency"], network["stores"], network["terminals"]) == (
            "Corner Pharmacy", "EUR", 2, 1,
        )  # fmt: skip
        rules = (await client.get(f"/v1/networks/{made['network_id']}/rules")).json()
        assert (rules["rules"]["earn_rate_bp"], rules["valid_from_ms"], rules["state"]) == (300, 0, "in_force")
    known = (await rig.ledger.terminals(["old-1"])).get("old-1")
    assert known is not None
    assert known.permitted == {16, 22}
    store = made["stores"][0]["store_id"]
    assert await audits(rig) == [
        f"partner.add partner:{made['partner_id']}", f"network.add network:{made['network_id']}",
        f"store.add store:{store}", f"terminal.add terminal:{terminal['terminal_id']}",
        f"store.add store:{made['stores'][1]['store_id']}",
    ]  # fmt: skip


async def test_a_lost_answer_is_told_again_with_the_same_secrets(rig: OfficeRig) -> None:
    key = rig.key()
    async with rig.client() as client:
        first = await client.post("/v1/partners/onboard", json=ONBOARDING, headers=key)
        again = await client.post("/v1/partners/onboard", json=ONBOARDING, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert await signs_on(rig.ledger, "old-1", again.json()["stores"][0]["terminals"][0]["secret"])


async def test_fifty_stores_with_five_terminals_each_come_in_at_once(rig: OfficeRig) -> None:
    stores = [
        {"name": f"Store {s}", "terminals": [{"code": f"s{s}-t{t}", "permitted": ["sale"]} for t in range(5)]}
        for s in range(50)
    ]
    async with rig.client() as client:
        answer = await client.post("/v1/partners/onboard", json={**ONBOARDING, "stores": stores}, headers=rig.key())
    assert answer.status_code == 201
    secrets = {t["code"]: t["secret"] for store in answer.json()["stores"] for t in store["terminals"]}
    assert len(secrets) == len(set(secrets.values())) == 250
    assert await signs_on(rig.ledger, "s49-t4", secrets["s49-t4"])


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"partner": {"name": "Harvest Foods"}}, 409, "the name 'Harvest Foods' is taken"),
        ({"network": {"name": "Harvest Market", "currency": "EUR"}}, 409, "the name 'Harvest Market' is taken"),
        ({"stores": [{"name": "A", "terminals": [{"code": "till-1", "permitted": []}]}]}, 409, "'till-1' is taken"),
        ({"stores": [{"name": "A"}, {"name": "A"}]}, 409, "the name 'A' is taken"),
        ({"stores": [{"name": "A", "terminals": [{"code": "x", "permitted": []}] * 2}]}, 422, "x comes twice"),
        ({"stores": [{"name": "A", "terminals": [{"code": "a b", "permitted": []}]}]}, 422, "terminals.0.code"),
        ({"stores": [{"name": "A", "terminals": [{"code": "a", "permitted": ["fly"]}]}]}, 422, "permitted.0"),
        ({"stores": [{"name": "A", "terminals": [{"code": "a"}]}]}, 422, "permitted"),
        ({"network": {"name": "N", "currency": "Euro"}}, 422, "currency"),
        ({"network": {"name": "N", "currency": "EUR", "rules": {"share_bp": 10_001}}}, 422, "from 0 to 10000"),
        ({"partner": {"name": " \n "}}, 422, "partner.name"),
        ({"partner": {"name": "a\u0000b"}}, 422, "printable"),
        ({"partner": {"name": "x", "vip": True}}, 422, "vip"),
    ],
)  # fmt: skip
async def test_what_cannot_come_in_leaves_nothing_behind(
    rig: OfficeRig, change: dict[str, Any], status: int, said: str
) -> None:
    async with rig.client() as client:
        before = (await client.get("/v1/partners")).json()
        answer = await client.post("/v1/partners/onboard", json={**ONBOARDING, **change}, headers=rig.key())
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert said in answer.text
        assert (await client.get("/v1/partners")).json() == before
    assert await audits(rig) == []


async def test_bad_rules_are_named_where_they_stand_in_the_request(rig: OfficeRig) -> None:
    network = {"name": "N", "currency": "EUR", "rules": {"earn_rate_bp": -1, "slip": ["fine", "{nonsense}"]}}
    async with rig.client() as client:
        answer = await client.post("/v1/partners/onboard", json={**ONBOARDING, "network": network}, headers=rig.key())
    assert [f["where"] for f in answer.json()["fields"]] == ["network.rules.earn_rate_bp", "network.rules.slip.1"]


async def test_the_coalition_grows_piece_by_piece(rig: OfficeRig) -> None:
    async with rig.client() as client:

        async def post(path: str, body: dict[str, Any]) -> Any:
            answer = await client.post(path, json=body, headers=rig.key())
            assert answer.status_code == 201, answer.text
            return answer.json()

        partner = await post("/v1/partners", {"name": "Books & Co"})
        network = await post("/v1/networks", {"partner_id": partner["partner_id"], "name": "Books", "currency": "USD"})
        store = await post(
            "/v1/stores",
            {"network_id": network["network_id"], "name": "Harbour", "terminals": [{"code": "b1", "permitted": []}]},
        )
        assert await signs_on(rig.ledger, "b1", store["terminals"][0]["secret"])
        assert (await client.get(f"/v1/stores/{store['store_id']}")).json() == {
            "store_id": store["store_id"], "network_id": network["network_id"], "network": "Books",
            "partner_id": partner["partner_id"], "name": "Harbour", "active": True, "works": True, "terminals": 1,
        }  # fmt: skip
        assert (await client.get(f"/v1/partners/{partner['partner_id']}")).json()["stores"] == 1


async def test_something_below_what_is_not_there_is_refused(rig: OfficeRig) -> None:
    async with rig.client() as client:
        for path, body in (
            ("/v1/networks", {"partner_id": 77, "name": "N", "currency": "EUR"}),
            ("/v1/stores", {"network_id": 77, "name": "S"}),
        ):
            assert (await client.post(path, json=body, headers=rig.key())).status_code == 404
        for path in ("/v1/partners/77", "/v1/networks/77", "/v1/stores/77"):
            assert (await client.get(path)).status_code == 404
            assert (await client.patch(path, json={"name": "x"})).status_code == 404
        assert (await client.get("/v1/stores/99999999999")).status_code == 422


async def test_a_rename_is_seen_by_registers_within_a_second(rig: OfficeRig) -> None:
    async with rig.client() as client:
        answer = await client.patch("/v1/networks/1", json={"name": "Harvest Now"})
        assert answer.json()["name"] == "Harvest Now"
        assert (await client.patch("/v1/partners/1", json={"name": "Harvest Group"})).status_code == 200
        assert (await client.patch("/v1/stores/1", json={"name": "Mill Street 2"})).json()["name"] == "Mill Street 2"
    async with asyncio.timeout(10):
        while rig.ledger.programme.networks[1].name != "Harvest Now":
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/v1/partners/1", "/v1/networks/1", "/v1/stores/1"])
async def test_suspending_shuts_out_every_terminal_below_until_it_is_resumed(rig: OfficeRig, path: str) -> None:
    async with rig.client() as client:
        assert await signs_on(rig.ledger, "till-1", rig.secret)
        before = rig.ledger.programme.version
        assert (await client.patch(path, json={"active": False})).json()["active"] is False
        assert not await signs_on(rig.ledger, "till-1", rig.secret)
        terminal = (await client.get("/v1/terminals/1")).json()
        assert (terminal["state"], terminal["works"]) == ("active", False)
        async with asyncio.timeout(10):
            while rig.ledger.programme.version == before:
                await asyncio.sleep(0.01)
        await client.patch(path, json={"active": True})
        assert await signs_on(rig.ledger, "till-1", rig.secret)
    assert [line.split()[0].split(".")[1] for line in await audits(rig)] == ["change", "change"]


async def test_a_name_that_is_taken_is_a_conflict(rig: OfficeRig) -> None:
    async with rig.client() as client:
        await onboarded(rig, client)
        answer = await client.patch("/v1/partners/1", json={"name": "Corner Pharmacy"})
    assert (answer.status_code, answer.json()["detail"]) == (409, "the name 'Corner Pharmacy' is taken")


async def test_lists_are_paged_and_searched(rig: OfficeRig) -> None:
    async with rig.client() as client:
        stores = [{"name": f"Store {n}"} for n in range(7)]
        body = {**ONBOARDING, "stores": stores}
        made = (await client.post("/v1/partners/onboard", json=body, headers=rig.key())).json()
        names: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await client.get("/v1/stores", params={"limit": 3, **cursor})).json()
            names += [store["name"] for store in page["items"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert names == ["Mill Street", *(f"Store {n}" for n in range(7))]
        found = (await client.get("/v1/stores", params={"name": "sTORE 5"})).json()["items"]
        assert [store["name"] for store in found] == ["Store 5"]
        own = (await client.get("/v1/stores", params={"network_id": 1})).json()["items"]
        assert [store["name"] for store in own] == ["Mill Street"]
        networks = (await client.get("/v1/networks", params={"partner_id": made["partner_id"]})).json()["items"]
        assert [network["name"] for network in networks] == ["Corner Pharmacies"]
        partners = (await client.get("/v1/partners", params={"name": "harvest"})).json()["items"]
        assert [partner["partner_id"] for partner in partners] == [1]
        assert (await client.get("/v1/stores", params={"name": "100%"})).json()["items"] == []
        assert (await client.get("/v1/stores", params={"cursor": "WyJhIl0"})).status_code == 400


async def test_a_partners_people_see_and_change_their_own_only(rig: OfficeRig) -> None:
    async with rig.client() as owner:
        other = await onboarded(rig, owner)
    async with rig.client(*EVERYTHING, partner_id=1) as client:
        for path in ("partners", "networks", "stores", "terminals"):
            items = (await client.get(f"/v1/{path}")).json()["items"]
            assert {item["partner_id"] for item in items} == {1}
        assert (await client.get("/v1/stores", params={"partner_id": other["partner_id"]})).status_code == 404
        store = other["stores"][0]["store_id"]
        for path in (f"partners/{other['partner_id']}", f"networks/{other['network_id']}", f"stores/{store}"):
            assert (await client.get(f"/v1/{path}")).status_code == 404
            assert (await client.patch(f"/v1/{path}", json={"active": False})).status_code in {403, 404}
        body = {"network_id": other["network_id"], "name": "Theirs"}
        assert (await client.post("/v1/stores", json=body, headers=rig.key())).status_code == 404
        assert (await client.post("/v1/partners", json={"name": "Mine"}, headers=rig.key())).status_code == 403
        assert (await client.post("/v1/partners/onboard", json=ONBOARDING, headers=rig.key())).status_code == 403
        assert (await client.patch("/v1/partners/1", json={"active": True})).status_code == 403


async def test_who_may_only_read_cannot_write(rig: OfficeRig) -> None:
    async with rig.client(Permission.COALITION_READ) as client:
        assert (await client.get("/v1/partners")).status_code == 200
        assert (await client.post("/v1/partners", json={"name": "x"}, headers=rig.key())).status_code == 403
        assert (await client.patch("/v1/stores/1", json={"name": "x"})).status_code == 403
    async with rig.client(Permission.FIGURES_READ) as client:
        assert (await client.get("/v1/partners")).status_code == 403
