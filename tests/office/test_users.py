import asyncio
from typing import Any

import pytest

from admin_api.api.users import UserChange, change_user
from admin_api.security.permissions import ROLES, Permission, Role
from tests.rigs.office_rig import CONSOLE_URL, OfficeRig
from tests.rigs.people import SYSTEM, accepted, invited, signed_in


def asked(**other: Any) -> dict[str, Any]:
    return {"email": "boris@example.com", "name": "Boris", "role": "operator", **other}


async def test_an_invitation_is_a_link_to_the_console(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, owner):
        answer = await owner.post("/v1/users", json=asked(language="ru"), headers=rig.key())
        assert answer.status_code == 201
        made = answer.json()
        assert made["link"].startswith(f"{CONSOLE_URL}/invitation/twi_")
        shown = (await owner.get(f"/v1/users/{made['user_id']}")).json()
        assert (shown["accepted"], shown["active"], shown["language"]) == (False, True, "ru")
        again = await owner.post("/v1/users", json=asked(email="BORIS@example.com"), headers=rig.key())
        assert again.status_code == 409


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "partner"},
        {"role": "operator", "partner_id": 1},
        {"role": "emperor"},
        {"email": "boris"},
        {"email": "b\x00@example.com"},
        {"name": ""},
        {"language": "xx"},
    ],
)
async def test_a_wrong_invitation_is_refused(rig: OfficeRig, wrong: dict[str, Any]) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/users", json=asked(**wrong), headers=rig.key())
        assert answer.status_code == 422


async def test_nobody_invites_or_relinks_somebody_who_may_do_more(rig: OfficeRig) -> None:
    owner = await invited(rig.office)
    async with rig.client(Permission.USERS_WRITE, *ROLES[Role.MARKETER]) as client:
        assert (await client.post("/v1/users", json=asked(role="owner"), headers=rig.key())).status_code == 403
        assert (await client.post("/v1/users", json=asked(role="marketer"), headers=rig.key())).status_code == 201
        assert (await client.post(f"/v1/users/{owner.user_id}/link", headers=rig.key())).status_code == 403
        assert (await client.patch(f"/v1/users/{owner.user_id}", json={"active": False})).status_code == 403


async def test_a_partners_token_reaches_that_partners_people_only(rig: OfficeRig) -> None:
    owner = await invited(rig.office)
    person = await invited(rig.office, Role.PARTNER, email="p@example.com")
    permissions = [Permission.USERS_READ, Permission.USERS_WRITE, *ROLES[Role.PARTNER]]
    async with rig.client(*permissions, partner_id=1) as client:
        listed = (await client.get("/v1/users")).json()["items"]
        assert [item["user_id"] for item in listed] == [person.user_id]
        assert (await client.get(f"/v1/users/{owner.user_id}")).status_code == 404
        assert (await client.patch(f"/v1/users/{owner.user_id}", json={"name": "x"})).status_code == 404
        assert (await client.post("/v1/users", json=asked(role="partner", partner_id=2), headers=rig.key())).is_error
        new = asked(role="partner", partner_id=1)
        assert (await client.post("/v1/users", json=new, headers=rig.key())).status_code == 201


async def test_a_suspended_user_is_out_at_once(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, owner), signed_in(rig, Role.OPERATOR, email="b@example.com") as (boris, client):
        link = (await owner.post(f"/v1/users/{boris.user_id}/link", headers=rig.key())).json()["link"]
        answer = await owner.patch(f"/v1/users/{boris.user_id}", json={"active": False})
        assert answer.json()["active"] is False
        assert (await client.get("/v1/me/session")).status_code == 401
        proofs = boris.proofs(rig.office)
        assert (await client.post("/v1/sign-in", json=proofs)).status_code == 401
        assert (await client.get(f"/v1/invitations/{link.rpartition('/')[2]}")).status_code == 404
        assert (await owner.post(f"/v1/users/{boris.user_id}/link", headers=rig.key())).status_code == 409
        assert (await owner.patch(f"/v1/users/{boris.user_id}", json={"active": True})).status_code == 200
        assert (await client.get("/v1/me/session")).status_code == 401, "the old session stays ended"
        assert (await client.post("/v1/sign-in", json=proofs)).status_code == 200


async def test_another_role_counts_from_the_next_request_on(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, owner), signed_in(rig, email="b@example.com") as (boris, client):
        assert (await client.get("/v1/users")).status_code == 200
        await owner.patch(f"/v1/users/{boris.user_id}", json={"role": "marketer"})
        assert (await client.get("/v1/users")).status_code == 403


async def test_the_last_owner_stays(rig: OfficeRig) -> None:
    async with signed_in(rig) as (anna, client):
        await invited(rig.office, email="never-accepted@example.com")
        for change in ({"active": False}, {"role": "auditor"}):
            answer = await client.patch(f"/v1/users/{anna.user_id}", json=change)
            assert answer.status_code == 409
        assert (await client.patch(f"/v1/users/{anna.user_id}", json={"name": "Anna A."})).status_code == 200


async def test_two_owners_cannot_suspend_each_other_at_once(rig: OfficeRig) -> None:
    async with signed_in(rig) as (anna, _), signed_in(rig, email="b@example.com") as (boris, _):
        out = UserChange(active=False)
        results = await asyncio.gather(
            *(change_user(rig.office, SYSTEM, person.user_id, out) for person in (anna, boris)), return_exceptions=True
        )
    assert sorted(getattr(result, "status", 200) for result in results) == [200, 409]


async def test_a_new_link_replaces_password_authenticator_and_sessions(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, owner), signed_in(rig, Role.OPERATOR, email="b@example.com") as (boris, client):
        links = [(await owner.post(f"/v1/users/{boris.user_id}/link", headers=rig.key())).json() for _ in range(2)]
        tokens = [link["link"].rpartition("/")[2] for link in links]
        assert (await client.get("/v1/me/session")).status_code == 200, "the old password works until the link is used"
        async with rig.anonymous() as fresh:
            assert (await fresh.get(f"/v1/invitations/{tokens[0]}")).status_code == 404
            old = boris.proofs(rig.office)
            boris.token, boris.secret, boris.last_step = tokens[1], rig.office.guard.codes.secret_of(tokens[1]), 0
            await accepted(rig, boris, fresh)
            assert (await client.get("/v1/me/session")).status_code == 401
            assert (await fresh.post("/v1/sign-in", json=old)).status_code == 401
            assert (await fresh.post("/v1/sign-in", json=boris.proofs(rig.office))).status_code == 200


async def test_changes_are_recorded_without_personal_data(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, owner):
        made = (await owner.post("/v1/users", json=asked(), headers=rig.key())).json()
        await owner.patch(f"/v1/users/{made['user_id']}", json={"name": "Boris B."})
        found = await owner.get("/v1/audit", params={"subject": f"user:{made['user_id']}"})
    entries = found.json()["items"]
    assert [entry["action"] for entry in entries] == ["user.change", "user.invite"]
    assert "boris" not in str([entry["detail"] for entry in entries]).lower()
