from typing import Any

import httpx
import pytest

from admin_api.members import members
from admin_api.members.members import MemberAsked, personal_data
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from tests.rigs.office_rig import EVERYTHING, OfficeRig

ANNA = {
    "given_name": "Annabella",
    "family_name": "Quillfeather",
    "phone": "+49 151 2345 6789",
    "email": "Annabella@quillfeather.example",
    "birthday": "1990-02-28",
    "consents": {"marketing": True},
}


async def created(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/v1/members", json={"personal": ANNA, **asked}, headers=OfficeRig.key())
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def found(client: httpx.AsyncClient, text: str) -> list[dict[str, Any]]:
    answer = await client.post("/v1/members/search", json={"text": text}, headers=OfficeRig.key())
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_member_is_registered_with_the_card_in_hand_and_found_by_anything_said(rig: OfficeRig) -> None:
    number = rig.numbers[0]
    async with rig.client() as client:
        made = await created(client, cards=[{"kind": "ean13", "number": number}], store_id=1)
        account = made["account_id"]
        assert account == rig.cards[0].account
        said = (
            number, f"{number[0]} {number[1:7]} {number[7:]}", "0049 151 23456789", "ANNABELLA@quillfeather.example",
            "quillfeather", "Quillfeather Annabella",
        )  # fmt: skip
        for text in said:
            items = await found(client, text)
            assert [(each["account_id"], each["given_name"]) for each in items] == [(account, "Annabella")], text
            assert items[0]["cards"][0]["masked"] == f"{number[:4]}*****{number[-4:]}"
        assert await found(client, "Quill") == []


async def test_without_the_right_to_see_members_a_card_leads_to_no_name_and_a_name_to_nobody(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await created(client, cards=[{"kind": "ean13", "number": rig.numbers[0]}])
    async with rig.client(Permission.CARDS_READ) as client:
        by_card = await found(client, rig.numbers[0])
        assert [(e["account_id"], e["given_name"], e["family_name"]) for e in by_card] == [
            (made["account_id"], None, None)
        ]
        assert await found(client, "Quillfeather") == []
        assert (await client.get(f"/v1/members/{made['account_id']}")).status_code == 403


async def test_a_new_card_and_no_card_at_all_make_a_new_account(rig: OfficeRig) -> None:
    known = {card.account for card in rig.cards}
    async with rig.client() as client:
        with_card = await created(client, cards=[{"kind": "pan", "number": "9643100000000010"}])
        without = await created(client)
        assert len({*known, with_card["account_id"], without["account_id"]}) == len(known) + 2
        assert [card["status"] for card in with_card["cards"]] == ["active"]
        assert without["cards"] == []


async def test_a_card_of_another_member_or_a_number_that_is_none_is_refused(rig: OfficeRig) -> None:
    card = {"kind": "ean13", "number": rig.numbers[0]}
    async with rig.client() as client:
        await created(client, cards=[card])
        taken = await client.post("/v1/members", json={"personal": {}, "cards": [card]}, headers=rig.key())
        wrong = await client.post(
            "/v1/members", json={"personal": {}, "cards": [{"kind": "ean13", "number": "2000000000016"}]},
            headers=rig.key(),
        )  # fmt: skip
        two = await client.post(
            "/v1/members", headers=rig.key(),
            json={"personal": {}, "cards": [{"kind": "ean13", "number": n} for n in rig.numbers[1:3]]},
        )  # fmt: skip
        assert (taken.status_code, wrong.status_code, two.status_code) == (409, 422, 409)
        assert "2000000000016" not in wrong.text


@pytest.mark.parametrize(
    "personal", [{"phone": "12345"}, {"birthday": "28.02.1990"}, {"email": "Annabella"}, {"shoe": "39"}]
)
async def test_a_wrong_field_is_named_and_its_value_not_told_back(rig: OfficeRig, personal: dict[str, str]) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/members", json={"personal": personal}, headers=rig.key())
        assert answer.status_code == 422
        ((name, value),) = personal.items()
        assert name in answer.text
        assert value not in answer.text


async def test_a_registration_that_died_before_the_cards_came_is_repeated_for_the_same_account(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [{"kind": "ean13", "number": rig.numbers[0]}, {"kind": "pan", "number": "9643100000000010"}]
    asked = MemberAsked.model_validate({"personal": ANNA, "cards": cards, "phone_as_card": True})
    actor = Actor("user:1", "Anna", EVERYTHING)

    async def died(*_args: object) -> None:
        raise RuntimeError("the process died here")

    with monkeypatch.context() as patch:
        patch.setattr(members, "link", died)
        with pytest.raises(RuntimeError):
            await members.create(rig.office, actor, asked, b"c" * 16)
    for _ in range(2):
        made = await members.create(rig.office, actor, asked, b"c" * 16)
        assert (made.account_id, made.not_linked) == (rig.cards[0].account, [])
        assert sorted((card.kind, card.status) for card in made.cards) == [
            ("ean13", "active"), ("pan", "active"), ("phone", "active"),
        ]  # fmt: skip


async def test_a_change_names_the_version_that_was_seen_and_is_kept_with_what_was_before(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = (await created(client))["account_id"]
        change = {"version": 1, "store_id": 1, "family_name": "Smith", "email": None, "consents": {"sms": False}}
        changed = await client.patch(f"/v1/members/{account}", json=change)
        lost = await client.patch(f"/v1/members/{account}", json=change)
        assert (changed.status_code, changed.json()["version"]) == (200, 2)
        assert (lost.status_code, lost.json()["version"]) == (409, 2)
        answer = (await client.get(f"/v1/members/{account}?changes=true")).json()
        member, (last, first) = answer["member"], answer["changes"]
        assert (member["family_name"], member["email"], member["given_name"]) == ("Smith", None, "Annabella")
        assert member["consents"] == {"marketing": True, "sms": False}
        assert (last["store"], sorted(last["fields"])) == ("Mill Street", ["consents", "email", "family_name"])
        assert last["before"]["family_name"] == "Quillfeather"
        assert first["before"] is None
        assert await found(client, "Quillfeather") == []
        assert [each["account_id"] for each in await found(client, "smith")] == [account]


async def test_the_greeting_follows_the_given_name(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await created(client, cards=[{"kind": "ean13", "number": rig.numbers[0]}])
        account = made["account_id"]
        assert await greeted(rig, account) == "Annabella"
        await client.patch(f"/v1/members/{account}", json={"version": 1, "given_name": "Bella"})
        assert await greeted(rig, account) == "Bella"
        await client.patch(f"/v1/members/{account}", json={"version": 2, "given_name": None})
        assert await greeted(rig, account) is None


async def greeted(rig: OfficeRig, account: int) -> str | None:
    async with rig.registry.reading() as transaction:
        stored = await transaction.fetchval("SELECT greeting FROM personal.member WHERE account_id = $1", account)
    return None if stored is None else personal_data(rig.office).greeted(account, stored)


async def test_partners_people_see_no_member(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = (await created(client))["account_id"]
    async with rig.client(*Permission, partner_id=1) as client:
        for method, path, body in (
            ("GET", f"/v1/members/{account}", None),
            ("POST", "/v1/members/search", {"text": "Quillfeather"}),
            ("POST", "/v1/members", {"personal": {}}),
            ("PATCH", f"/v1/members/{account}", {"version": 1}),
            ("POST", f"/v1/members/{account}/erase", None),
            ("POST", f"/v1/members/{account}/phone-card", None),
        ):
            answer = await client.request(method, path, json=body, headers=rig.key())
            assert answer.status_code == 403, (method, path)


async def test_every_look_and_every_write_is_in_the_audit_log(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = (await created(client))["account_id"]
        await client.get(f"/v1/members/{account}?changes=true")
        await client.patch(f"/v1/members/{account}", json={"version": 1, "given_name": "Bella"})
        await found(client, "Quillfeather")
        await client.post(f"/v1/members/{account}/erase", headers=rig.key())
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT action FROM office.audit ORDER BY audit_id")
    assert [row["action"] for row in rows] == [
        "member.create", "member.look", "member.look_changes", "member.change", "member.search", "member.erase",
    ]  # fmt: skip
