"""The pages of coalition, rules, audit, people and operations as forms are sent, without a browser."""

import re
from typing import Any

import httpx
import pytest

from admin_api.security.permissions import Role
from tests.office.test_console_accounts import posted
from tests.rigs.office_rig import OfficeRig
from tests.rigs.people import session_cookie, signed_in
from tests.rigs.signing_on import signs_on

RULES = {
    "earn_rate_bp": "10", "activation_days": "0", "expiry_months": "0", "expiry_days": "0", "share_bp": "50",
    "redeem_min": "0", "redeem_max": "0", "day_points_max": "0", "day_count_max": "0", "terminal_day_points_max": "0",
    "hold_default_ms": "15", "hold_max_ms": "24", "holds_max": "16", "slip": "Left {available}", "from": "now",
}  # fmt: skip
CHANGE = "/programme/networks/1/change"


async def base_of(client: httpx.AsyncClient) -> str:
    found = re.search(r'name="base" value="(\w+)"', (await client.get(CHANGE)).text)
    assert found is not None
    return found[1]


async def rates(rig: OfficeRig) -> list[Any]:
    async with rig.client() as client:
        versions = (await client.get("/v1/networks/1/rules/versions")).json()["items"]
    return [one["rules"]["earn_rate_bp"] for one in versions]


async def test_every_page_can_be_read_in_both_languages(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, client):
        await posted(client, "/tokens/new", name="Web shop", days="30", permissions=["figures:read"])
        await posted(client, CHANGE, base=await base_of(client), step="save", **RULES)
        for language in ("en", "ru"):
            client.cookies.set("tillwire-language", language)
            for path in (
                "/coalition", "/coalition?view=partners", "/coalition?view=networks&partner=1", "/coalition/new",
                "/coalition?view=terminals&q=till&state=active", "/coalition?q=nothing+like+it",
                "/coalition/partners/1", "/coalition/networks/1", "/coalition/stores/1", "/coalition/terminals/1",
                "/coalition/networks/new?partner=1", "/coalition/stores/new?network=1",
                "/coalition/terminals/new?store=1", "/coalition/stores/1/rotate",
                *(f"/coalition/{kind}/1/{verb}" for kind in ("partners", "networks", "stores", "terminals")
                  for verb in ("suspend", "resume")),
                "/coalition/terminals/1/rotate", "/coalition/terminals/1/revoke",
                "/programme", "/programme/networks/1", CHANGE, "/programme/time-zone",
                "/programme/networks/1/versions/1/rollback", "/programme/networks/1/versions/1/withdraw",
                "/audit", "/audit?first=2020-01-01&last=2099-01-01&actor=system&action=user&account=7",
                f"/audit?request={'0' * 32}", "/users", "/users/new", f"/users/{person.user_id}",
                *(f"/users/{person.user_id}/{verb}" for verb in ("suspend", "resume", "link")),
                "/tokens", "/tokens/new", "/tokens/1/revoke", "/profile", "/operations", "/operations/live",
                "/operations/verify", "/operations/drain", "/",
            ):  # fmt: skip
                answer = await client.get(path)
                assert answer.status_code == 200, (path, answer.text)
                assert not re.search(r"\sstyle=|\son\w+=", answer.text), path
        for path in ("/coalition/partners/7", "/coalition/stores/7", "/users/999", "/tokens/77/revoke",
                     "/programme/networks/7", "/programme/networks/1/versions/77/rollback"):  # fmt: skip
            assert (await client.get(path)).status_code == 404, path


async def test_a_store_is_opened_once_however_often_the_form_is_sent(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        path = "/coalition/stores/new?network=1"
        key = re.search(r'name="key" value="(\w+)"', (await client.get(path)).text)
        assert key is not None
        form = {
            "csrf": client.headers["x-csrf-token"], "key": key[1], "store": "North Gate", "codes": "ng-1\nng-2, ng-3",
            "permitted": ["sale", "balance"],
        }  # fmt: skip
        first = await client.post(path, data=form)
        again = await client.post(path, data=form)
        file = await client.post(path, data={**form, "as_file": "yes"})
        secrets = re.findall(r'class="secret">([^<]+)<', first.text)
        assert len(secrets) == 3
        assert re.findall(r'class="secret">([^<]+)<', again.text) == secrets
        assert file.headers["content-type"] == "text/csv; charset=utf-8"
        assert [line.split(",")[2] for line in file.text.splitlines()[1:]] == secrets
        assert await signs_on(rig.ledger, "ng-2", secrets[1])
        stores = await client.get("/v1/stores?name=North")
        assert len(stores.json()["items"]) == 1


async def test_what_is_wrong_with_an_onboarding_stands_beside_each_field(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        answer = await posted(
            client, "/coalition/new", partner="", network="Corner", currency="XYZ", earn_rate_bp="a lot",
            share_bp="101", activation_days="0", expiry_months="12", redeem_min="0", step="save",
            store=["A", "B"], codes=["one two", "two \u00e4"],
        )  # fmt: skip
        assert answer.status_code == 422
        for name in ("partner", "currency", "earn_rate_bp", "share_bp", "codes-0", "codes-1"):
            assert f'id="{name}-wrong"' in answer.text, name
        assert 'value="Corner"' in answer.text
        assert "two \u00e4" in answer.text
        taken = await posted(
            client, "/coalition/new", partner="Harvest Foods", network="Corner", currency="EUR", earn_rate_bp="5",
            share_bp="100", activation_days="0", expiry_months="12", redeem_min="0", step="save",
        )  # fmt: skip
        assert taken.status_code == 409
        assert "The name Harvest Foods is taken" in taken.text


async def test_another_store_is_asked_for_without_losing_what_was_typed(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        answer = await posted(
            client, "/coalition/new", partner="New Foods", step="another_store", store="A", codes="a-1"
        )
        assert answer.text.count('name="codes"') == 2
        assert 'value="New Foods"' in answer.text


async def test_a_terminal_is_suspended_resumed_rotated_and_revoked(rig: OfficeRig) -> None:
    place = "/coalition/terminals/1"
    async with signed_in(rig, Role.OPERATOR) as (_, client):
        assert (await posted(client, f"{place}/suspend")).status_code == 303
        assert not await signs_on(rig.ledger, "till-1", rig.secret)
        await posted(client, f"{place}/resume")
        assert await signs_on(rig.ledger, "till-1", rig.secret)
        rotated = await posted(client, f"{place}/rotate")
        (secret,) = re.findall(r'class="secret">([^<]+)<', rotated.text)
        assert await signs_on(rig.ledger, "till-1", secret)
        assert not await signs_on(rig.ledger, "till-1", rig.secret)
        await posted(client, f"{place}/permit", page=place, permitted=["balance"])
        assert (await client.get("/v1/terminals/1")).json()["permitted"] == ["balance"]
        await posted(client, f"{place}/revoke")
        assert not await signs_on(rig.ledger, "till-1", secret)
        assert (await posted(client, f"{place}/rotate")).status_code == 409


async def test_rules_are_saved_once_and_never_over_somebody_else_s(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        base = await base_of(client)
        shown = await posted(client, CHANGE, base=base, step="preview", amount="100.00", points="0", **RULES)
        assert "10.00" in shown.text
        assert await rates(rig) == [500]
        saved = await posted(client, CHANGE, base=base, step="save", **RULES)
        assert saved.status_code == 303
        assert await rates(rig) == [1_000, 500]
        stale = await posted(client, CHANGE, base=base, step="save", **{**RULES, "earn_rate_bp": "7"})
        assert stale.status_code == 409
        assert await rates(rig) == [1_000, 500]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"earn_rate_bp": "five"}, "earn_rate_bp"),
        ({"share_bp": "100,5"}, "share_bp"),
        ({"redeem_min": "10", "redeem_max": "5"}, "redeem_max"),
        ({"hold_default_ms": "2880"}, "hold_default_ms"),
        ({"expiry_at_month_end": "yes"}, "expiry_at_month_end"),
        ({"slip": "fine\nHello {nobody}"}, "slip"),
        ({"from": "day", "day": "2001-01-01"}, "day"),
    ],
)
async def test_rules_that_cannot_be_lived_by_are_refused_beside_the_field(
    rig: OfficeRig, wrong: dict[str, str], field: str
) -> None:
    async with signed_in(rig, Role.MARKETER) as (_, client):
        client.cookies.set("tillwire-language", "ru")
        answer = await posted(client, CHANGE, base=await base_of(client), step="save", **{**RULES, **wrong})
        assert answer.status_code == 422
        sentence = re.search(rf'id="{field}-wrong">([^<]+)<', answer.text)
        assert sentence is not None
        assert re.search("[\\u0430-\\u044f]{3}", sentence[1]), "in the visitor's language"
        assert await rates(rig) == [500]


async def test_a_partner_s_people_see_their_own_partner_only(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        await posted(
            client, "/coalition/new", partner="Other Foods", network="Other", currency="EUR", earn_rate_bp="5",
            share_bp="100", activation_days="0", expiry_months="12", redeem_min="0", step="save", store="Else",
            codes="else-1",
        )  # fmt: skip
    async with signed_in(rig, Role.PARTNER, email="bert@example.com") as (_, client):
        shown = await client.get("/coalition?view=stores")
        assert "Mill Street" in shown.text
        assert "Else" not in shown.text
        for path in ("/coalition/partners/2", "/coalition/stores/2", "/coalition/terminals/2", "/programme/networks/2",
                     "/coalition/terminals/2/rotate", "/coalition/terminals/new?store=2"):  # fmt: skip
            assert (await client.get(path)).status_code == 404, path
        assert "/coalition/new" not in shown.text
        assert (await client.get("/coalition/new")).status_code == 403
        assert (await client.get("/coalition/terminals/1")).status_code == 200


async def test_a_link_and_a_token_are_shown_once_and_made_once(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        invited = await posted(
            client, "/users/new", name="Carl", email="carl@example.com", role="auditor", language="ru"
        )
        assert invited.status_code == 200
        assert "/invitation/twi_" in invited.text
        twice = await posted(client, "/users/new", name="Carl", email="carl@example.com", role="auditor")
        assert twice.status_code == 409
        nobody = await posted(client, "/users/new", name="Dora", email="dora@example.com", role="partner")
        assert 'id="partner-wrong"' in nobody.text
        made = await posted(client, "/tokens/new", name="Report", days="30", permissions=["figures:read"])
        token = re.search(r'class="secret">([^<]+)<', made.text)
        assert token is not None
        async with rig.anonymous() as program:
            program.headers["authorization"] = f"Bearer {token[1]}"
            assert (await program.get("/v1/figures/now")).status_code == 200
            number = re.search(r"/tokens/(\d+)/revoke", (await client.get("/tokens")).text)
            assert number is not None
            assert (await posted(client, f"/tokens/{number[1]}/revoke")).status_code == 303
            assert (await program.get("/v1/figures/now")).status_code == 401


async def test_draining_asks_first_and_is_noted(rig: OfficeRig) -> None:
    async with signed_in(rig, Role.OPERATOR) as (_, client):
        await client.get("/operations/drain")
        assert not rig.installation.drained
        assert "is ending" in (await posted(client, "/operations/drain")).text
        assert rig.installation.drained
    async with signed_in(rig, Role.AUDITOR, email="eva@example.com") as (_, client):
        assert "Ended the installation" in (await client.get("/audit?action=installation")).text
        export = await client.get("/audit/export.csv?action=installation.drain")
        assert export.text.count("installation.drain") == 1


async def test_one_s_other_session_is_ended_and_the_time_zone_changed(rig: OfficeRig) -> None:
    async with signed_in(rig) as (person, client), rig.anonymous() as other:
        other.cookies.set("__Host-tillwire", await session_cookie(rig, person.user_id))
        assert (await other.get("/profile")).status_code == 200
        ends = re.findall(r'action="(/profile/sessions/[0-9a-f]+/end)"', (await client.get("/profile")).text)
        assert len(ends) == 1, "not the one that is here"
        assert (await posted(client, ends[0], page="/profile")).status_code == 303
        assert (await other.get("/profile")).status_code == 303
        wrong = await posted(client, "/programme/time-zone", time_zone="Europe/Nowhere")
        assert 'id="time_zone-wrong"' in wrong.text
        await posted(client, "/programme/time-zone", time_zone="Europe/Berlin")
        assert "Europe/Berlin" in (await client.get("/programme")).text
