from dataclasses import replace
from typing import Any

import httpx
import pytest

from admin_api.api.member_tokens import MemberTokenAsked, make_member_token
from admin_api.api.tokens import TokenAsked, make_token
from admin_api.api.users import UserAsked, invite_user, new_link
from admin_api.app import create_app
from admin_api.problem import Problem
from admin_api.security.actor import Actor
from admin_api.security.permissions import ROLES, Permission, Role
from tests.rigs.moved_clock import MovedClock
from tests.rigs.office_rig import OfficeRig
from tests.rigs.people import member_token, signed_in

DAY_S = 86_400


def asked(**other: Any) -> dict[str, Any]:
    return {"name": "till counter", "permissions": ["figures:read"], "days": 30, **other}


async def made(rig: OfficeRig, client: httpx.AsyncClient, **other: Any) -> dict[str, Any]:
    answer = await client.post("/v1/tokens", json=asked(**other), headers=rig.key())
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def as_bearer(rig: OfficeRig, token: str, path: str = "/v1/audit") -> int:
    async with rig.anonymous() as client:
        return (await client.get(path, headers={"authorization": f"Bearer {token}"})).status_code


async def test_a_token_opens_what_it_permits_until_it_is_revoked(rig: OfficeRig) -> None:
    async with rig.client() as client:
        token = await made(rig, client, permissions=["audit:read"])
        assert token["token"].startswith("tw_")
        assert await as_bearer(rig, token["token"]) == 200
        assert await as_bearer(rig, token["token"], "/v1/users") == 403
        for _ in range(2):
            assert (await client.delete(f"/v1/tokens/{token['token_id']}")).status_code == 204
        assert await as_bearer(rig, token["token"]) == 401


async def test_a_token_is_shown_once_and_again_only_to_a_repetition(rig: OfficeRig) -> None:
    async with rig.client() as client:
        key = rig.key()
        first = await client.post("/v1/tokens", json=asked(), headers=key)
        again = await client.post("/v1/tokens", json=asked(), headers=key)
        assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
        listed = (await client.get("/v1/tokens")).json()["items"]
        assert sum(item["name"] == "till counter" for item in listed) == 1
        assert first.json()["token"] not in str(listed)


async def test_nobody_gives_a_token_more_than_he_may_do(rig: OfficeRig) -> None:
    async with rig.client(Permission.TOKENS_WRITE, Permission.FIGURES_READ) as client:
        await made(rig, client)
        answer = await client.post("/v1/tokens", json=asked(permissions=["members:read"]), headers=rig.key())
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": 0},
        {"days": 36_000},
        {"permissions": []},
        {"permissions": ["everything"]},
        {"partner_id": 1, "permissions": ["members:read"]},
        {"name": " "},
        {"name": "\x00"},
        {"colour": "red"},
    ],
)
async def test_a_wrong_wish_is_refused(rig: OfficeRig, wrong: dict[str, Any]) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/tokens", json=asked(**wrong), headers=rig.key())
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_post_without_a_key_is_refused(rig: OfficeRig) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/tokens", json=asked())
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request")
        assert (await client.post("/v1/tokens", json=asked(), headers={"idempotency-key": "a b"})).status_code == 422


async def test_a_partner_that_is_not_there_is_refused(rig: OfficeRig) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/tokens", json=asked(partner_id=99), headers=rig.key())
        assert answer.status_code == 409


async def test_a_partners_token_makes_and_sees_that_partners_tokens_only(rig: OfficeRig) -> None:
    async with rig.client() as owner, rig.client(
        Permission.TOKENS_WRITE, Permission.FIGURES_READ, partner_id=1
    ) as client:  # fmt: skip
        general = await made(rig, owner)
        own = await made(rig, client)
        assert (await owner.get(f"/v1/tokens/{own['token_id']}")).json()["partner_id"] == 1
        listed = (await client.get("/v1/tokens")).json()["items"]
        assert {item["partner_id"] for item in listed} == {1}
        assert (await client.get(f"/v1/tokens/{general['token_id']}")).status_code == 404
        assert (await client.delete(f"/v1/tokens/{general['token_id']}")).status_code == 404
        answer = await client.post("/v1/tokens", json=asked(partner_id=2), headers=rig.key())
        assert answer.status_code == 404


async def test_a_token_expires(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        token = await made(rig, client, permissions=["audit:read"], days=2)
    clock = MovedClock(rig.clock)
    rig.app = create_app(replace(rig.office, clock=clock))
    clock.ahead_s = 2 * DAY_S - 60
    assert await as_bearer(rig, token["token"]) == 200
    clock.ahead_s = 2 * DAY_S
    assert await as_bearer(rig, token["token"]) == 401


async def test_its_use_is_noted_once_a_minute(rig: OfficeRig) -> None:
    async with rig.client() as client:
        token = await made(rig, client, permissions=["audit:read"])
        clock = MovedClock(rig.clock)
        rig.app = create_app(replace(rig.office, clock=clock))
        noted = []
        for ahead_s in (0, 30, 90):
            clock.ahead_s = ahead_s
            await as_bearer(rig, token["token"])
            noted.append((await client.get(f"/v1/tokens/{token['token_id']}")).json()["used_ms"])
    assert noted[0] == noted[1] < noted[2]


async def test_pages_of_tokens_follow_each_other(rig: OfficeRig) -> None:
    async with rig.client() as client:
        ids = [(await made(rig, client, name=f"n{n}"))["token_id"] for n in range(5)]
        found: list[int] = []
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
            page = (await client.get("/v1/tokens", params=params)).json()
            found += [item["token_id"] for item in page["items"]]
            cursor = page["next"]
    assert found[:5] == ids[::-1]


async def test_making_and_revoking_are_recorded(rig: OfficeRig) -> None:
    async with rig.client() as client:
        token = await made(rig, client)
        await client.delete(f"/v1/tokens/{token['token_id']}")
        entries = (await client.get("/v1/audit", params={"subject": f"token:{token['token_id']}"})).json()["items"]
    assert [entry["action"] for entry in entries] == ["token.revoke", "token.make"]
    assert token["token"] not in str(entries)


async def test_what_a_suspended_user_made_works_no_longer_nor_what_that_made(rig: OfficeRig) -> None:
    async with rig.client() as owner, signed_in(rig) as (person, client):
        child = await made(rig, client, permissions=["tokens:write", "audit:read"])
        async with rig.anonymous() as program:
            program.headers["authorization"] = f"Bearer {child['token']}"
            grandchild = await made(rig, program, permissions=["audit:read"])
        other = await made(rig, owner, permissions=["audit:read"])
        async with signed_in(rig, email="other@example.com"):
            answer = await owner.patch(f"/v1/users/{person.user_id}", json={"active": False})
            assert answer.status_code == 200, answer.text
        statuses = [await as_bearer(rig, token["token"]) for token in (child, grandchild, other)]
    assert statuses == [401, 401, 200]


async def test_a_lesser_role_ends_the_tokens_that_may_do_more(rig: OfficeRig) -> None:
    async with rig.client() as owner, signed_in(rig) as (person, client), signed_in(rig, email="o@example.com"):
        wide = await made(rig, client, permissions=["audit:read", "users:write"])
        narrow = await made(rig, client, permissions=["audit:read"])
        answer = await owner.patch(f"/v1/users/{person.user_id}", json={"role": Role.AUDITOR})
        assert answer.status_code == 200
        assert [await as_bearer(rig, token["token"]) for token in (wide, narrow)] == [401, 200]


# ---- members


async def test_a_member_token_opens_one_account_and_nothing_of_operators(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    async with rig.client() as client:
        answer = await client.post("/v1/member-tokens", json={"account_id": account, "seconds": 600}, headers=rig.key())
        assert answer.status_code == 201
        token = answer.json()["token"]
        assert token.startswith("twm_")
        for path in ("/v1/tokens", "/v1/users", "/v1/audit"):
            assert await as_bearer(rig, token, path) == 403
        assert (await client.delete(f"/v1/member-tokens/{account}")).status_code == 204
        assert await as_bearer(rig, token) == 401


async def test_a_member_token_expires(rig: OfficeRig) -> None:
    clock = MovedClock(rig.clock)
    rig.app = create_app(replace(rig.office, clock=clock))
    body = {"account_id": rig.cards[0].account, "seconds": 600}
    async with rig.client() as client:
        token = (await client.post("/v1/member-tokens", json=body, headers=rig.key())).json()["token"]
    assert await as_bearer(rig, token) == 403
    clock.ahead_s = 600
    assert await as_bearer(rig, token) == 401


async def test_member_tokens_are_bounded(rig: OfficeRig) -> None:
    async with rig.client() as client:
        for body, status in (
            ({"account_id": 999_999, "seconds": 60}, 404),
            ({"account_id": rig.cards[0].account, "seconds": 31_000_000}, 422),
            ({"account_id": rig.cards[0].account, "seconds": 0}, 422),
        ):
            answer = await client.post("/v1/member-tokens", json=body, headers=rig.key())
            assert answer.status_code == status
        assert (await client.delete("/v1/member-tokens/999999")).status_code == 404
    async with rig.client(Permission.MEMBER_TOKENS_WRITE, partner_id=1) as client:
        body = {"account_id": rig.cards[0].account, "seconds": 60}
        assert (await client.post("/v1/member-tokens", json=body, headers=rig.key())).status_code == 403


@pytest.mark.parametrize(
    "end",
    [
        "INSERT INTO personal.member (account_id, erased_ms) VALUES ($1, 1)",
        (
            "INSERT INTO office.merge (source, target, request_out, request_in, state, reason, asked_by, asked_ms) "
            "SELECT $1, max(account_id), 'a', 'b', 'out', 'x', 'x', 1 FROM account"
        ),
    ],
)
async def test_a_member_token_ends_with_the_member(rig: OfficeRig, end: str) -> None:
    token = await member_token(rig)
    assert await as_bearer(rig, token) == 403
    async with rig.registry.writing() as transaction:
        await transaction.execute(end, rig.cards[0].account)
    assert await as_bearer(rig, token) == 401
    async with rig.client() as client:
        body = {"account_id": rig.cards[0].account, "seconds": 60}
        assert (await client.post("/v1/member-tokens", json=body, headers=rig.key())).status_code == 409


# ---- what outlasts its maker


async def test_with_a_token_end_those_that_were_made_with_it(rig: OfficeRig) -> None:
    async with rig.client() as owner:
        child = await made(rig, owner, permissions=["tokens:write", "audit:read"])
        async with rig.anonymous() as thief:
            thief.headers["authorization"] = f"Bearer {child['token']}"
            grandchild = await made(rig, thief, permissions=["audit:read"])
        assert await as_bearer(rig, grandchild["token"]) == 200
        assert (await owner.delete(f"/v1/tokens/{child['token_id']}")).status_code == 204
    assert await as_bearer(rig, grandchild["token"]) == 401


async def test_a_token_makes_none_that_outlasts_it(rig: OfficeRig) -> None:
    async with rig.client() as owner:
        child = await made(rig, owner, permissions=["tokens:write", "audit:read"], days=1)
        async with rig.anonymous() as program:
            program.headers["authorization"] = f"Bearer {child['token']}"
            grandchild = await made(rig, program, permissions=["audit:read"], days=300)
    assert grandchild["expires_ms"] == child["expires_ms"]


async def test_whoever_was_suspended_in_the_middle_of_a_request_leaves_nothing_behind(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, _), signed_in(rig, email="other@example.com"):
        actor = Actor(f"user:{person.user_id}", "Anna", ROLES[Role.OWNER])
        async with rig.client() as owner:
            await made(rig, owner)
            answer = await owner.patch(f"/v1/users/{person.user_id}", json={"active": False})
            assert answer.status_code == 200
        for make in (
            make_token(rig.office, actor, TokenAsked(**asked())),
            invite_user(rig.office, actor, UserAsked(email="x@example.com", name="X", role=Role.OWNER)),
            new_link(rig.office, actor, person.user_id + 1),
            make_member_token(rig.office, actor, MemberTokenAsked(account_id=rig.cards[0].account, seconds=60)),
        ):
            with pytest.raises(Problem) as raised:
                await make
            assert raised.value.status == 401


async def test_whoever_was_demoted_or_revoked_in_the_middle_of_a_request_leaves_nothing_behind(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, _), signed_in(rig, email="other@example.com"), rig.client() as owner:
        token = await made(rig, owner, permissions=["tokens:write", "figures:read"])
        await owner.patch(f"/v1/users/{person.user_id}", json={"role": Role.AUDITOR})
        await owner.delete(f"/v1/tokens/{token['token_id']}")
        for actor in (
            Actor(f"user:{person.user_id}", "Anna", ROLES[Role.OWNER]),
            Actor(
                f"token:{token['token_id']}", "program", frozenset({Permission.TOKENS_WRITE, Permission.FIGURES_READ})
            ),
        ):
            with pytest.raises(Problem) as raised:
                await make_token(rig.office, actor, TokenAsked(**asked()))
            assert raised.value.status == 401
