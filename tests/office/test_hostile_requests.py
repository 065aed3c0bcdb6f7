"""Requests that nobody's browser sends: what they may cost, and what they may not find."""

import base64

import pytest

from tests.office.test_protection import limited
from tests.rigs.office_rig import OfficeRig


def form(value: bytes, charset: str) -> dict[str, object]:
    body = b'--B\r\nContent-Disposition: form-data; name="email"\r\n\r\n' + value + b"\r\n--B--\r\n"
    return {"content": body, "headers": {"content-type": f"multipart/form-data; boundary=B; charset={charset}"}}


# Of these, punycode takes the square of the length, utf-7 makes half a surrogate pair, the last one is no name at all.
@pytest.mark.parametrize("charset", ["punycode", "utf-7", "PUNYCODE", '"a\\0b"'])
@pytest.mark.parametrize("path", ["/sign-in", "/preferences", "/v1/sign-in"])
async def test_no_form_chooses_how_its_bytes_are_decoded(rig: OfficeRig, path: str, charset: str) -> None:
    async with rig.anonymous() as client:
        answer = await client.post(path, **form(b"+2AA-", charset))
    assert answer.status_code == 400
    assert answer.json()["detail"] == "a form is written in UTF-8"


async def test_a_form_in_utf_8_is_read(rig: OfficeRig) -> None:
    async with rig.anonymous() as client:
        answer = await client.post("/sign-in", **form(b"anna@example.com", "UTF-8"))
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/v1/invitations/twi_guess", "/invitation/twi_guess", "/", "/sign-in", "/v1/nothing"])
@pytest.mark.parametrize("claim", [{"authorization": "Bearer x"}, {"cookie": "__Host-tillwire=x"}])
async def test_made_up_credentials_do_not_get_a_stranger_past_the_bound(
    rig: OfficeRig, path: str, claim: dict[str, str]
) -> None:
    limited(rig, requests_per_minute_max=3)
    async with rig.anonymous() as client:
        answers = [(await client.get(path, headers=claim)).status_code for _ in range(4)]
    assert 429 not in answers[:3]
    assert answers[3] == 429


async def test_who_is_known_does_not_use_up_what_strangers_of_the_same_address_may_ask(rig: OfficeRig) -> None:
    limited(rig, requests_per_minute_max=3)
    async with rig.client() as client, rig.anonymous() as stranger:
        assert [(await client.get("/v1/tokens")).status_code for _ in range(3)] == [200] * 3
        assert (await stranger.get("/sign-in")).status_code == 200


async def test_a_body_full_of_faults_has_a_short_answer(rig: OfficeRig) -> None:
    body = {f"{'x' * 1_000}{i}": i for i in range(500)}
    async with rig.anonymous() as client:
        answer = await client.post("/v1/sign-in", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["fields"]) == 20
    assert len(answer.content) < 20_000


@pytest.mark.parametrize("origin", ["http://[", "http://[x]", "null", "", "https://office.test@elsewhere.test"])
async def test_an_origin_that_is_none_is_another_site(rig: OfficeRig, origin: str) -> None:
    async with rig.anonymous() as client:
        assert (await client.post("/v1/sign-in", json={}, headers={"origin": origin})).status_code == 403


@pytest.mark.parametrize("told", [b"1", b'["done"]', b"null", b'["done",1,{}]', b'["done","no.such.words",{}]', b"{}"])
async def test_a_made_up_note_from_the_last_step_is_not_shown(rig: OfficeRig, told: bytes) -> None:
    cookie = f"tillwire-flash={base64.urlsafe_b64encode(told).decode()}"
    async with rig.anonymous() as client:
        answer = await client.get("/sign-in", headers={"cookie": cookie})
    assert answer.status_code == 200
    assert 'class="flash' not in answer.text


async def test_a_page_never_links_to_where_its_address_would_lead_a_browser(rig: OfficeRig) -> None:
    async with rig.anonymous() as client:
        answer = await client.get("https://office.test//elsewhere.test/x")
    assert answer.status_code == 404
    assert "//elsewhere.test" not in answer.text
