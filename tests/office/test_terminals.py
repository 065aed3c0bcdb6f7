import asyncio
from typing import Any, get_args

import httpx
import pytest

from admin_api.coalition.terminals import OperationName
from admin_api.security.permissions import ROLES, Permission, Role
from protocol.codes import Message
from tests.rigs.office_rig import EVERYTHING, OfficeRig
from tests.rigs.signing_on import signs_on

ALL = list(get_args(OperationName))


async def post(rig: OfficeRig, client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> Any:
    answer = await client.post(path, json=body, headers=rig.key())
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def added(rig: OfficeRig, client: httpx.AsyncClient, code: str) -> Any:
    return await post(rig, client, "/v1/terminals", {"store_id": 1, "code": code, "permitted": ["balance"]})


async def keys(rig: OfficeRig, code: str) -> tuple[bytes, ...]:
    async with rig.registry.reading() as transaction:
        row = await transaction.fetchrow("SELECT salt, stored_key, server_key FROM terminal WHERE code = $1", code)
    return tuple(row)


async def programme_moves_on(rig: OfficeRig, version: int) -> None:
    """Wait until the ledger has read a newer programme: whoever is connected is looked up again then."""
    async with asyncio.timeout(10):
        while rig.ledger.programme.version == version:
            await asyncio.sleep(0.01)


def test_every_operation_of_a_register_can_be_permitted() -> None:
    assert [op.name.lower() for op in Message if Message.BALANCE <= op <= Message.REPLACE] == ALL


async def test_a_terminal_is_added_to_a_store_and_signs_on(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await added(rig, client, "till-2")
        assert await signs_on(rig.ledger, "till-2", made["secret"])
        assert (await client.get(f"/v1/terminals/{made['terminal_id']}")).json() == {
            "terminal_id": made["terminal_id"], "code": "till-2", "store_id": 1, "store": "Mill Street",
            "network_id": 1, "network": "Harvest Market", "partner_id": 1, "permitted": ["balance"],
            "state": "active", "works": True, "revoked_ms": None, "relay": False,
        }  # fmt: skip
        assert (await client.get("/v1/terminals/operations")).json() == {"operations": ALL}


async def test_no_answer_but_the_first_tells_a_secret(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await added(rig, client, "till-2")
        for path in ("/v1/terminals", f"/v1/terminals/{made['terminal_id']}", "/v1/stores/1"):
            text = (await client.get(path)).text
            assert made["secret"] not in text
            assert "secret" not in text


async def test_what_a_terminal_may_do_is_replaced(rig: OfficeRig) -> None:
    async with rig.client() as client:
        version = rig.ledger.programme.version
        answer = await client.patch("/v1/terminals/1", json={"permitted": ["sale", "earn", "sale"]})
        assert answer.json()["permitted"] == ["earn", "sale"]
        await programme_moves_on(rig, version)
        terminal = (await rig.ledger.terminals(["till-1"])).get("till-1")
        assert terminal is not None
        assert terminal.permitted == {Message.EARN, Message.SALE}
        assert (await client.patch("/v1/terminals/1", json={"permitted": ["fly"]})).status_code == 422


async def test_a_rotated_terminal_needs_its_new_secret(rig: OfficeRig) -> None:
    async with rig.client() as client:
        version = rig.ledger.programme.version
        made = await post(rig, client, "/v1/terminals/1/rotate")
        assert await signs_on(rig.ledger, "till-1", made["secret"])
        assert not await signs_on(rig.ledger, "till-1", rig.secret)
        await programme_moves_on(rig, version)


async def test_the_lost_answer_to_a_rotation_is_told_again(rig: OfficeRig) -> None:
    key = rig.key()
    async with rig.client() as client:
        first = await client.post("/v1/terminals/1/rotate", headers=key)
        again = await client.post("/v1/terminals/1/rotate", headers=key)
    assert first.json() == again.json()
    assert await signs_on(rig.ledger, "till-1", again.json()["secret"])


async def test_a_suspended_terminal_stays_out_until_it_is_resumed(rig: OfficeRig) -> None:
    async with rig.client() as client:
        version = rig.ledger.programme.version
        assert (await post(rig, client, "/v1/terminals/1/suspend"))["state"] == "suspended"
        assert not await signs_on(rig.ledger, "till-1", rig.secret)
        await programme_moves_on(rig, version)
        assert (await post(rig, client, "/v1/terminals/1/resume"))["state"] == "active"
        assert await signs_on(rig.ledger, "till-1", rig.secret)


async def test_a_revoked_terminal_never_comes_back_and_its_code_stays_taken(rig: OfficeRig) -> None:
    async with rig.client() as client:
        before = await keys(rig, "till-1")
        version = rig.ledger.programme.version
        revoked = await post(rig, client, "/v1/terminals/1/revoke")
        assert (revoked["state"], revoked["works"]) == ("revoked", False)
        assert revoked["revoked_ms"] is not None
        assert not await signs_on(rig.ledger, "till-1", rig.secret)
        await programme_moves_on(rig, version)
        assert not set(before) & set(await keys(rig, "till-1"))
        for act in ("resume", "suspend", "rotate", "revoke"):
            answer = await client.post(f"/v1/terminals/1/{act}", headers=rig.key())
            assert answer.status_code == 409
            assert "revoked" in answer.json()["detail"]
        assert (await client.patch("/v1/terminals/1", json={"permitted": []})).status_code == 409
        body = {"store_id": 1, "code": "till-1", "permitted": []}
        assert (await client.post("/v1/terminals", json=body, headers=rig.key())).status_code == 409
        assert (await client.get("/v1/stores/1")).json()["terminals"] == 0


async def test_all_terminals_of_a_store_are_dealt_with_in_one_call(rig: OfficeRig) -> None:
    async with rig.client() as client:
        secrets = {"till-1": rig.secret}
        for number in (2, 3):
            secrets[f"till-{number}"] = (await added(rig, client, f"till-{number}"))["secret"]
        gone = await added(rig, client, "till-9")
        await post(rig, client, f"/v1/terminals/{gone['terminal_id']}/revoke")

        suspended = (await post(rig, client, "/v1/stores/1/terminals/suspend"))["terminals"]
        assert [(t["code"], t["state"]) for t in suspended] == [(code, "suspended") for code in secrets]
        assert not [code for code in secrets if await signs_on(rig.ledger, code, secrets[code])]

        resumed = (await post(rig, client, "/v1/stores/1/terminals/resume"))["terminals"]
        assert {t["state"] for t in resumed} == {"active"}
        assert [code for code in secrets if await signs_on(rig.ledger, code, secrets[code])] == list(secrets)

        rotated = (await post(rig, client, "/v1/stores/1/terminals/rotate"))["terminals"]
        assert [t["code"] for t in rotated] == list(secrets)
        assert not [code for code in secrets if await signs_on(rig.ledger, code, secrets[code])]
        assert [t["code"] for t in rotated if await signs_on(rig.ledger, t["code"], t["secret"])] == list(secrets)

        left = (await client.get("/v1/terminals", params={"state": "revoked"})).json()["items"]
        assert [t["code"] for t in left] == ["till-9"]


async def test_terminals_are_listed_by_where_they_stand_and_how(rig: OfficeRig) -> None:
    async with rig.client() as client:
        for number in range(2, 6):
            await added(rig, client, f"till-{number}")
        await post(rig, client, "/v1/terminals/1/suspend")

        async def codes(**query: Any) -> list[str]:
            return [t["code"] for t in (await client.get("/v1/terminals", params=query)).json()["items"]]

        assert await codes() == [f"till-{n}" for n in range(1, 6)]
        assert await codes(state="suspended") == ["till-1"]
        assert await codes(state="active", limit=2) == ["till-2", "till-3"]
        assert await codes(code="LL-4") == ["till-4"]
        assert await codes(store_id=1, network_id=1, partner_id=1, state="active", code="5") == ["till-5"]
        assert await codes(store_id=2) == []
        assert (await client.get("/v1/terminals", params={"state": "lost"})).status_code == 422
        page = (await client.get("/v1/terminals", params={"limit": 4})).json()
        assert await codes(cursor=page["next"]) == ["till-5"]


async def test_every_change_leaves_an_entry_that_tells_store_and_partner(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await added(rig, client, "till-2")
        for act in ("suspend", "resume", "rotate", "revoke"):
            await post(rig, client, f"/v1/terminals/{made['terminal_id']}/{act}")
        await client.patch("/v1/terminals/1", json={"permitted": []})
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT * FROM office.audit ORDER BY audit_id")
    acts = ["add", "suspend", "resume", "rotate", "revoke", "permit"]
    assert [row["action"] for row in rows] == [f"terminal.{act}" for act in acts]
    assert {(row["partner_id"], row["store_id"]) for row in rows} == {(1, 1)}
    assert rows[0]["subject"] == f"terminal:{made['terminal_id']}"
    assert all(made["secret"] not in row["detail"] for row in rows)


async def test_what_is_refused_leaves_no_entry_and_changes_nothing(rig: OfficeRig) -> None:
    async with rig.client() as client:
        before = await keys(rig, "till-1")
        for path in ("/v1/terminals/77/rotate", "/v1/terminals/77/revoke", "/v1/stores/77/terminals/suspend"):
            assert (await client.post(path, headers=rig.key())).status_code == 404
        assert (await client.get("/v1/terminals/77")).status_code == 404
        assert (await client.post("/v1/terminals/1/rotate")).status_code == 400
    async with rig.client(Permission.COALITION_READ) as client:
        assert (await client.post("/v1/terminals/1/rotate", headers=rig.key())).status_code == 403
        assert (await client.post("/v1/stores/1/terminals/rotate", headers=rig.key())).status_code == 403
    assert await keys(rig, "till-1") == before
    async with rig.registry.reading() as transaction:
        assert await transaction.fetchval("SELECT count(*) FROM office.audit") == 0


async def test_a_partners_people_reach_their_own_terminals_only(rig: OfficeRig) -> None:
    body = {
        "partner": {"name": "Other"}, "network": {"name": "Others", "currency": "EUR"},
        "stores": [{"name": "S", "terminals": [{"code": "o-1", "permitted": []}]}],
    }  # fmt: skip
    async with rig.client() as owner:
        made = await post(rig, owner, "/v1/partners/onboard", body)
    (store,) = made["stores"]
    terminal = store["terminals"][0]["terminal_id"]
    async with rig.client(*EVERYTHING, partner_id=1) as client:
        assert (await client.post("/v1/terminals/1/rotate", headers=rig.key())).status_code == 200
        assert (await client.get(f"/v1/terminals/{terminal}")).status_code == 404
        assert (await client.patch(f"/v1/terminals/{terminal}", json={"permitted": []})).status_code == 404
        for path in (f"terminals/{terminal}", f"stores/{store['store_id']}/terminals"):
            for act in ("suspend", "resume", "rotate"):
                assert (await client.post(f"/v1/{path}/{act}", headers=rig.key())).status_code == 404
        new = {"store_id": store["store_id"], "code": "mine", "permitted": []}
        assert (await client.post("/v1/terminals", json=new, headers=rig.key())).status_code == 404
    assert await signs_on(rig.ledger, "o-1", store["terminals"][0]["secret"])


async def test_a_partner_does_not_let_its_registers_change_cards_by_itself(rig: OfficeRig) -> None:
    async with rig.client() as owner, rig.client(*ROLES[Role.PARTNER], partner_id=1) as partner:
        first = {"permitted": ["balance", "sale", "activate"]}
        assert (await owner.patch("/v1/terminals/1", json=first)).status_code == 200
        for permitted in (["replace"], ["sale", "block"]):
            assert (await partner.patch("/v1/terminals/1", json={"permitted": permitted})).status_code == 403
            new = {"store_id": 1, "code": "mine", "permitted": permitted}
            assert (await partner.post("/v1/terminals", json=new, headers=rig.key())).status_code == 403
        assert (await owner.get("/v1/terminals/1")).json()["permitted"] == first["permitted"]
        for permitted in (["balance", "earn", "hold"], ["activate", "refund"]):
            new = {"store_id": 1, "code": f"mine-{len(permitted)}", "permitted": permitted}
            assert (await partner.post("/v1/terminals", json=new, headers=rig.key())).status_code == 201
        await post(rig, owner, "/v1/terminals", {"store_id": 1, "code": "theirs", "permitted": ["replace"]})
        assert (await partner.patch("/v1/terminals/1", json={"permitted": ["replace"]})).status_code == 200


@pytest.mark.parametrize("act", ["suspend", "rotate"])
async def test_two_who_change_the_same_store_at_once_do_not_block_each_other(rig: OfficeRig, act: str) -> None:
    async with rig.client() as client:
        for number in range(2, 8):
            await added(rig, client, f"till-{number}")
        one_by_one = [client.post(f"/v1/terminals/{n}/suspend", headers=rig.key()) for n in range(7, 0, -1)]
        batch = [client.post(f"/v1/stores/1/terminals/{act}", headers=rig.key()) for _ in range(3)]
        answers = await asyncio.gather(*batch, *one_by_one)
    assert {answer.status_code for answer in answers} == {200}
