"""What every request passes before and after its endpoint."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from admin_api.app import create_app
from admin_api.office import OfficeLimits
from admin_api.security.buckets import Buckets, caller_at
from admin_api.security.permissions import Permission
from tests.rigs.office_rig import CONSOLE_URL, OfficeRig
from tests.rigs.people import signed_in


def limited(rig: OfficeRig, **limits: Any) -> None:
    rig.office = replace(rig.office, limits=replace(OfficeLimits(), **limits))
    rig.app = create_app(rig.office)


@pytest.mark.parametrize("path", ["/v1/tokens", "/v1/nothing", "/health/live", "/nothing", "/v1/openapi.json"])
async def test_every_answer_tells_browsers_to_trust_nothing_else(rig: OfficeRig, path: str) -> None:
    async with rig.anonymous() as client:
        headers = (await client.get(path)).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert headers["strict-transport-security"].startswith("max-age=")


async def test_plain_http_does_not_promise_tls(rig: OfficeRig) -> None:
    rig.app = create_app(replace(rig.office, console_url="http://127.0.0.1:7480"))
    async with rig.anonymous() as client:
        assert "strict-transport-security" not in (await client.get("/health/live")).headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("PUT", "/v1/tokens", 405), ("POST", "/v1", 404)]
)
async def test_unknown_paths_and_methods_are_problems(rig: OfficeRig, method: str, path: str, status: int) -> None:
    async with rig.anonymous() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_long_body_is_refused_by_its_announced_length(rig: OfficeRig) -> None:
    limited(rig, body_bytes_max=1_000)
    async with rig.client() as client:
        answer = await client.post("/v1/tokens", content=b"x" * 1_001, headers=rig.key())
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


async def test_a_long_body_is_refused_though_its_length_was_not_announced(rig: OfficeRig) -> None:
    limited(rig, body_bytes_max=1_000)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 100
            yield b"x" * 100

    async with rig.client() as client:
        headers = {**rig.key(), "content-type": "application/json"}
        answer = await client.post("/v1/tokens", content=body(), headers=headers)
    assert answer.status_code == 413
    assert sent <= 1_200, "what is too much is not even read"


async def test_a_fault_is_answered_without_details_and_logged_with_its_reference(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("table of secrets is on fire")

    monkeypatch.setattr("admin_api.api.sign_in.sign_in.invitation", fails)
    async with rig.anonymous() as client:
        with capture_logs() as lines:
            answer = await client.get("/v1/invitations/twi_verysecret")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "fire" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    (line,) = (line for line in lines if line["event"] == "request failed")
    assert line["reference"] == answer.json()["reference"]
    assert line["route"] == "/v1/invitations/{token}"
    assert "twi_verysecret" not in str(line)


async def test_strangers_and_those_with_wrong_tokens_are_slowed_down(rig: OfficeRig) -> None:
    limited(rig, requests_per_minute_max=5)
    async with rig.anonymous() as client:
        headers = {"authorization": "Bearer tw_wrong"}
        answers = [await client.get("/v1/tokens", headers=headers) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert int(answers[-1].headers["retry-after"]) == 12
        assert (await client.get("/v1/nothing")).status_code == 429
        assert (await client.get("/health/live")).status_code == 200, "whoever watches the process is not counted"


async def test_each_actor_has_a_measure_of_his_own(rig: OfficeRig) -> None:
    limited(rig, requests_per_minute_max=3)
    async with rig.client(Permission.AUDIT_READ) as one, rig.client(Permission.AUDIT_READ) as two:
        assert [(await one.get("/v1/audit")).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert (await two.get("/v1/audit")).status_code == 200


async def test_a_database_that_does_not_answer_is_503(rig: OfficeRig) -> None:
    async with rig.client() as client:
        with pytest.MonkeyPatch.context() as patch:

            async def lost(*_: object, **__: object) -> None:
                raise OSError("connection lost")

            patch.setattr("ledger.registry.tokens.by_token", lost)
            answer = await client.get("/v1/tokens")
    assert (answer.status_code, answer.json()["type"], answer.headers["retry-after"]) == (
        503, "/problems/unavailable", "1",
    )  # fmt: skip


async def test_nonsense_is_a_problem_and_no_fault(rig: OfficeRig) -> None:
    half_a_character = (b'{"\\ud800": 1}', b'{"name": "\\ud800", "permissions": ["figures:read"], "days": 1}', b"\xff")
    too_deep_or_too_big = (b"[" * 200_000, b'{"days": ' + b"9" * 10_000 + b"}", b'{"days": NaN}', b'{"days": 1e999}')
    async with rig.client() as client:
        for body in half_a_character + too_deep_or_too_big:
            headers = {**rig.key(), "content-type": "application/json"}
            answer = await client.post("/v1/tokens", content=body, headers=headers)
            assert answer.status_code in {400, 422}, answer.text


async def test_a_session_is_not_slowed_down_by_its_neighbours(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        answers = await asyncio.gather(*(client.get("/v1/me/session") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert client.base_url == CONSOLE_URL


class Clock:
    now_s = 0.0

    def now_ms(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s


def test_a_bucket_fills_up_again_and_never_more_than_full() -> None:
    clock = Clock()
    buckets = Buckets(clock, per_minute_max=60, callers_max=10)
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [1]
    clock.now_s = 0.9
    assert buckets.take("a") == 1
    clock.now_s = 1.0
    assert [buckets.take("a"), buckets.take("a")] == [0, 1]
    clock.now_s = 10_000.0
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [1]


def test_of_too_many_callers_the_one_silent_longest_is_forgotten() -> None:
    buckets = Buckets(Clock(), per_minute_max=1, callers_max=2)
    assert [buckets.take(caller) for caller in ("a", "b", "a")] == [0, 0, 60]
    assert buckets.take("c") == 0
    assert [buckets.take("a"), buckets.take("b")] == [60, 0]


def test_a_site_with_many_addresses_is_one_caller() -> None:
    assert caller_at("2001:db8::1") == caller_at("2001:db8::ffff:2") != caller_at("2001:db8:0:1::1")
    assert caller_at("10.0.0.1") != caller_at("10.0.0.2")
    assert caller_at("") == ""
