import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from admin_api.app import create_app
from admin_api.office import Office, OfficeLimits
from admin_api.problem import Problem
from admin_api.security.permissions import Role
from admin_api.security.sign_in import Browser, sign_in
from tests.rigs.moved_clock import MovedClock
from tests.rigs.office_rig import CONSOLE_URL, OfficeRig
from tests.rigs.people import PASSWORD, Person, accepted, invited, session_cookie, signed_in

HERE = Browser("10.0.0.1")


def changed(rig: OfficeRig, **limits: Any) -> Office:
    """Give the rig an office with other limits, a clock that can be moved, and failures that answer at once."""
    rig.office = replace(
        rig.office,
        limits=replace(OfficeLimits(), **{"sign_in_failed_s": 0.0, "sign_ins_per_minute_max": 1_000, **limits}),
        clock=MovedClock(rig.clock),
    )
    rig.app = create_app(rig.office)
    return rig.office


async def outcome(office: Office, person: Person, browser: Browser = HERE, **other: str) -> int:
    try:
        proofs = {"email": person.email, "password": PASSWORD} if "code" in other else person.proofs(office)
        await sign_in(office, browser, **{**proofs, **other})
    except Problem as problem:
        return problem.status
    return 200


def later(office: Office, seconds: int) -> None:
    assert isinstance(office.clock, MovedClock)
    office.clock.ahead_s += seconds


async def test_an_invitation_leads_to_a_session_and_then_to_nothing(rig: OfficeRig) -> None:
    person = await invited(rig.office)
    async with rig.anonymous() as client:
        shown = (await client.get(f"/v1/invitations/{person.token}")).json()
        assert (shown["email"], shown["role"]) == (person.email, "owner")
        assert shown["uri"].startswith("otpauth://totp/Tillwire:anna%40example.com?")
        assert "<svg" in shown["qr_svg"]
        assert "style" not in shown["qr_svg"]
        answer = await accepted(rig, person, client)
        assert answer.json()["role"] == "owner"
        assert (await client.get("/v1/me/session")).json()["email"] == person.email
        again = await client.post(f"/v1/invitations/{person.token}", json={"password": PASSWORD, "code": "000000"})
        assert (again.status_code, (await client.get(f"/v1/invitations/{person.token}")).status_code) == (404, 404)


async def test_looking_at_an_invitation_changes_nothing(rig: OfficeRig) -> None:
    person = await invited(rig.office)
    async with rig.anonymous() as client:
        looks = [(await client.get(f"/v1/invitations/{person.token}")).json() for _ in range(3)]
        assert looks[0] == looks[1] == looks[2]
        await accepted(rig, person, client)


@pytest.mark.parametrize(
    "body",
    [
        {"password": "short", "code": "123456"},
        {"password": "ANNA@example.com", "code": "123456"},
        {"password": "Password1234", "code": "123456"},
        {"password": "aaaaaaaaaaaaaa", "code": "123456"},
        {"password": PASSWORD, "code": "nonono"},
    ],
)
async def test_a_bad_choice_leaves_the_invitation_usable(rig: OfficeRig, body: dict[str, str]) -> None:
    person = await invited(rig.office)
    async with rig.anonymous() as client:
        answer = await client.post(f"/v1/invitations/{person.token}", json=body)
        assert answer.status_code == 422
        await accepted(rig, person, client)


async def test_an_invitation_expires(rig: OfficeRig) -> None:
    office = changed(rig)
    person = await invited(office)
    later(office, office.limits.invitation_s + 1)
    async with rig.anonymous() as client:
        assert (await client.get(f"/v1/invitations/{person.token}")).status_code == 404


async def test_two_who_accept_at_once_do_not_both(rig: OfficeRig) -> None:
    person = await invited(rig.office)
    body = {"password": PASSWORD, "code": person.code(rig.office)}
    async with rig.anonymous() as client:
        answers = await asyncio.gather(*(client.post(f"/v1/invitations/{person.token}", json=body) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404]


async def test_password_and_code_begin_a_session_with_a_cookie_of_this_host_alone(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, _), rig.anonymous() as client:
        answer = await client.post("/v1/sign-in", json=person.proofs(rig.office))
        assert answer.status_code == 200
        cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-tillwire="))
        assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
            "httponly", "max-age=43200", "path=/", "samesite=lax", "secure",
        }  # fmt: skip
        assert "access-control-allow-origin" not in answer.headers
        assert (await client.get("/v1/tokens")).status_code == 200


@pytest.mark.parametrize(
    ("url", "called", "name", "secure"),
    [
        ("http://127.0.0.1:7480", "http://127.0.0.1:7480", "tillwire", False),
        ("http://localhost:7480", "http://[::1]:7480", "tillwire", False),
        ("http://localhost:7480", "http://tills.example.com", "__Host-tillwire", True),
        ("http://tills.example.com", "http://127.0.0.1", "__Host-tillwire", True),
        ("", "http://127.0.0.1", "__Host-tillwire", True),
    ],
)
async def test_cookies_travel_in_clear_on_this_machine_alone(
    rig: OfficeRig, url: str, called: str, name: str, secure: bool
) -> None:
    person = await invited(rig.office)
    rig.office = replace(rig.office, console_url=url)
    rig.app = create_app(rig.office)
    async with rig.anonymous() as client:
        client.base_url = called
        answer = await accepted(rig, person, client)
    cookie = answer.headers.get_list("set-cookie")[0]
    assert cookie.startswith(f"{name}=")
    assert ("secure" in cookie.lower()) == secure


async def test_whatever_is_wrong_the_answer_is_the_same(rig: OfficeRig) -> None:
    office = changed(rig)
    never = await invited(office, email="never@example.com")
    async with signed_in(rig) as (person, _), rig.anonymous() as client:
        good = person.proofs(office)
        bodies = [
            {**good, "password": "wrong"},
            {**good, "code": "12"},
            {**good, "email": "nobody@example.com"},
            never.proofs(office),
        ]
        answers = [await client.post("/v1/sign-in", json=body) for body in bodies]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


async def test_an_unknown_address_takes_the_same_work(rig: OfficeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    office = changed(rig)
    async with signed_in(rig) as (person, _):
        work: list[str] = []
        verify = PasswordHasher.verify

        def counted(self: PasswordHasher, stored: str, password: str) -> bool:
            work.append(stored.rsplit("$", 2)[0])
            return bool(verify(self, stored, password))

        monkeypatch.setattr(PasswordHasher, "verify", counted)
        assert await outcome(office, person, password="wrong") == 401
        assert await outcome(office, person, email="nobody@example.com") == 401
        assert len(work) == 2
        assert work[0] == work[1], "the same parameters"
        async with rig.registry.reading() as transaction:
            rows = await transaction.fetch("SELECT subject FROM office.audit WHERE action = 'session.refuse'")
        assert [row["subject"] for row in rows] == [f"user:{person.user_id}", "user:0"]


async def test_no_failure_is_answered_early(rig: OfficeRig) -> None:
    office = changed(rig, sign_in_failed_s=0.3)
    begun = office.clock.monotonic_s()
    person = await invited(office)
    assert await outcome(office, person, password="x" * 500) == 401
    assert office.clock.monotonic_s() - begun >= 0.3


async def test_a_code_works_once_and_none_before_it_afterwards(rig: OfficeRig) -> None:
    office = changed(rig)
    async with signed_in(rig) as (person, _):
        later(office, 300)
        person.last_step = 0
        older, newer = person.proofs(office), person.proofs(office)
        await sign_in(office, HERE, **newer)
        for used in (newer, older):
            with pytest.raises(Problem):
                await sign_in(office, HERE, **used)


async def test_the_same_code_at_the_same_time_works_once(rig: OfficeRig) -> None:
    office = changed(rig)
    async with signed_in(rig) as (person, _):
        proofs = person.proofs(office)
        results = await asyncio.gather(*(sign_in(office, HERE, **proofs) for _ in range(3)), return_exceptions=True)
    assert sum(not isinstance(result, Problem) for result in results) == 1


async def test_too_many_failures_lock_a_user_for_a_while(rig: OfficeRig) -> None:
    office = changed(rig, failures_max=3)
    async with signed_in(rig) as (person, _):
        for _ in range(3):
            assert await outcome(office, person, password="wrong", code="1") == 401
        later(office, 60)
        person.last_step = 0
        assert await outcome(office, person) == 401, "locked, though all is right"
        later(office, office.limits.lockout_s)
        person.last_step = 0
        assert await outcome(office, person) == 200


async def test_many_guesses_at_once_do_not_outrun_the_count(rig: OfficeRig) -> None:
    office = changed(rig, failures_max=3)
    async with signed_in(rig) as (person, _):
        good = person.proofs(office)
        wrong = {**good, "password": "wrong"}
        await asyncio.gather(*(sign_in(office, HERE, **wrong) for _ in range(6)), return_exceptions=True)
        with pytest.raises(Problem):
            await sign_in(office, HERE, **good)


async def test_a_stranger_cannot_lock_a_user_out_of_a_browser_that_he_used_before(rig: OfficeRig) -> None:
    office = changed(rig, failures_max=3)
    async with signed_in(rig) as (person, _):
        known = Browser("10.0.0.1", device=(await sign_in(office, HERE, **person.proofs(office))).device)
        later(office, 120)
        person.last_step = 0
        for _ in range(5):
            assert await outcome(office, person, Browser("6.6.6.6"), password="wrong", code="1") == 401
        assert await outcome(office, person, Browser("6.6.6.6")) == 401
        assert await outcome(office, person, known) == 200


async def test_a_stolen_device_cookie_allows_as_few_guesses_as_none(rig: OfficeRig) -> None:
    office = changed(rig, failures_max=3)
    async with signed_in(rig) as (person, _):
        known = Browser("10.0.0.1", device=(await sign_in(office, HERE, **person.proofs(office))).device)
        later(office, 120)
        person.last_step = 0
        for _ in range(3):
            assert await outcome(office, person, known, password="wrong", code="1") == 401
        for _ in range(3):
            assert await outcome(office, person, password="wrong", code="1") == 401
        assert await outcome(office, person, known) == 401


async def test_an_address_has_few_attempts_a_minute(rig: OfficeRig) -> None:
    changed(rig, sign_ins_per_minute_max=2)
    async with rig.anonymous() as client:
        body = {"email": "x@example.com", "password": "x", "code": "1"}
        answers = [await client.post("/v1/sign-in", json=body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert int(answers[2].headers["retry-after"]) >= 1


async def test_a_session_ends_by_silence_and_at_last(rig: OfficeRig) -> None:
    office = changed(rig)
    async with signed_in(rig) as (_, client):
        for _ in range(3):
            later(office, office.limits.session_idle_s - 5)
            assert (await client.get("/v1/me/session")).status_code == 200
        later(office, office.limits.session_idle_s + 5)
        assert (await client.get("/v1/me/session")).status_code == 401
    async with signed_in(rig, email="boris@example.com") as (_, client):
        for _ in range(office.limits.session_s // office.limits.session_idle_s + 1):
            later(office, office.limits.session_idle_s - 5)
            answer = await client.get("/v1/me/session")
        assert answer.status_code == 401


async def test_what_changes_something_needs_the_sessions_own_token(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        right = client.headers.pop("x-csrf-token")
        body = {"name": "x", "permissions": ["figures:read"], "days": 1}
        for wrong in ({}, {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": "é"}):
            headers = {**rig.key(), **{name: value.encode() for name, value in wrong.items()}}
            answer = await client.post("/v1/tokens", json=body, headers=headers)
            assert answer.status_code == 403
        headers = {**rig.key(), "x-csrf-token": right}
        assert (await client.post("/v1/tokens", json=body, headers=headers)).status_code == 201


async def test_a_session_of_somebody_else_has_another_token(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, anna), signed_in(rig, email="boris@example.com") as (_, boris):
        headers = {"x-csrf-token": boris.headers["x-csrf-token"]}
        assert (await anna.post("/v1/sign-out", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 401), (CONSOLE_URL, 401), ("https://evil.test", 403), ("null", 403), ("http://office.test:1", 403)],
)
async def test_another_sites_page_cannot_sign_anybody_in(rig: OfficeRig, origin: str | None, status: int) -> None:
    changed(rig)
    body = {"email": "x@example.com", "password": "x", "code": "1"}
    async with rig.anonymous() as client:
        answer = await client.post("/v1/sign-in", json=body, headers={} if origin is None else {"origin": origin})
    assert answer.status_code == status


async def test_whoever_signed_out_is_out(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        cookies = httpx.Cookies(client.cookies)
        answer = await client.post("/v1/sign-out")
        assert answer.status_code == 204
        assert "max-age=0" in answer.headers["set-cookie"].lower()
        client.cookies = cookies
        assert (await client.get("/v1/me/session")).status_code == 401


async def test_one_sees_and_ends_ones_own_sessions_only(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, client), signed_in(rig, email="boris@example.com") as (_, boris):
        other = await session_cookie(rig, person.user_id)
        listed = (await client.get("/v1/me/sessions")).json()["items"]
        assert sorted(item["this"] for item in listed) == [False, True]
        theirs = next(item["session_id"] for item in listed if not item["this"])
        assert (await boris.delete(f"/v1/me/sessions/{theirs}")).status_code == 404
        assert (await client.delete(f"/v1/me/sessions/{theirs}")).status_code == 204
        async with rig.anonymous() as former:
            former.cookies.set("__Host-tillwire", other)
            assert (await former.get("/v1/me/session")).status_code == 401


async def test_a_password_is_hashed_anew_when_the_parameters_change(rig: OfficeRig) -> None:
    office = changed(rig)
    async with signed_in(rig) as (person, _):
        weak = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
        async with rig.registry.writing() as transaction:
            await transaction.execute("UPDATE office.console_user SET password_hash = $1", weak)
        assert await outcome(office, person) == 200
        async with rig.registry.reading() as transaction:
            stored = await transaction.fetchval("SELECT password_hash FROM office.console_user")
    assert stored != weak
    assert not PasswordHasher().check_needs_rehash(stored)


async def test_a_dump_opens_nothing(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, client):
        fresh = await invited(rig.office, Role.AUDITOR, email="eva@example.com")
        token = await rig.token(["figures:read"])  # type: ignore[list-item]
        secrets = [client.cookies["__Host-tillwire"], token, fresh.token, person.token, PASSWORD]
        async with rig.registry.reading() as transaction:
            tables = await transaction.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'office'")
            dump = repr([
                [tuple(row) for row in await transaction.fetch(f"SELECT * FROM office.{t['tablename']}")]  # noqa: S608
                for t in tables
            ])  # fmt: skip
    for secret in secrets:
        assert secret not in dump
    assert repr(person.secret) not in dump
    assert repr(fresh.secret) not in dump
