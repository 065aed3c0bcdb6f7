"""What is left of a member who wants to be forgotten, whatever dies on the way; and where nothing may ever stand."""

from typing import Any

import httpx
import pytest
import structlog

from admin_api.cards import cards
from admin_api.members import member_changes
from admin_api.members.member_changes import erase
from admin_api.security.actor import Actor
from ledger.journal.enrolment import Enrolled
from ledger.operations import Operation
from tests.rigs.office_rig import EVERYTHING, OfficeRig
from tests.rigs.planted import every_text
from tests.rigs.till import Till

ANNA = Actor("user:1", "Anna", EVERYTHING)
PERSON = {
    "given_name": "Annabella",
    "family_name": "Quillfeather",
    "phone": "+4915123456789",
    "email": "annabella@quillfeather.example",
    "birthday": "1990-02-28",
    "attributes": {"dog": "Rumpelstilz"},
}
NUMBER = "9643100000000010"
PLANTED = ("annabella", "quillfeather", "15123456789", "1990-02-28", "rumpelstilz", NUMBER)


async def posted(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    answer = await client.post(path, json=body, headers=OfficeRig.key())
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def registered(client: httpx.AsyncClient) -> int:
    asked = {"personal": PERSON, "phone_as_card": True, "cards": [{"kind": "pan", "number": NUMBER}]}
    made = await posted(client, "/v1/members", asked, 201)
    assert made["not_linked"] == []
    return int(made["account_id"])


async def statuses(client: httpx.AsyncClient, account: int) -> dict[str, tuple[str, str]]:
    items = (await client.get(f"/v1/accounts/{account}/cards")).json()["items"]
    return {card["kind"]: (card["status"], card["masked"]) for card in items}


async def phones(client: httpx.AsyncClient, account: int) -> list[tuple[str, str]]:
    """Return status and last digits of the phone numbers that are cards of the account."""
    items = (await client.get(f"/v1/accounts/{account}/cards")).json()["items"]
    return [(card["status"], card["masked"][-2:]) for card in items if card["kind"] == "phone"]


async def test_a_phone_works_as_a_card_and_a_changed_one_takes_its_place(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        assert await phones(client, account) == [("active", "89")]
        changed = await client.patch(f"/v1/members/{account}", json={"version": 1, "phone": "+4915187654321"})
        assert changed.json() == {"account_id": account, "version": 2, "phone_card": "replaced"}
        assert await phones(client, account) == [("active", "21")]
        back = await client.patch(f"/v1/members/{account}", json={"version": 2, "phone": PERSON["phone"]})
        assert (back.json()["version"], back.json()["phone_card"]) == (3, "replaced")
        assert await phones(client, account) == [("active", "89")]
        gone = await client.patch(f"/v1/members/{account}", json={"version": 3, "phone": None})
        assert (gone.json()["version"], gone.json()["phone_card"]) == (4, "unlinked")
        assert await phones(client, account) == []
        await posted(client, f"/v1/members/{account}/phone-card", status=422)


async def test_a_phone_that_was_taken_away_works_again_when_it_is_linked_again(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        taken = await client.patch(f"/v1/members/{account}", json={"version": 1, "phone": None})
        assert taken.json()["phone_card"] == "unlinked"
        given = await client.patch(f"/v1/members/{account}", json={"version": 2, "phone": PERSON["phone"]})
        assert given.json()["phone_card"] is None
        await posted(client, f"/v1/members/{account}/phone-card")
        assert (await statuses(client, account))["phone"][0] == "active"
        other = (await posted(client, "/v1/members", {"personal": PERSON}, 201))["account_id"]
        refused = await posted(client, f"/v1/members/{other}/phone-card", status=409)
        assert refused["outcome"] == "CARD_IN_USE"


async def test_a_number_that_somebody_else_has_by_now_is_data_and_no_card(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        other = {"personal": {**PERSON, "phone": "+4915187654321"}, "phone_as_card": True}
        theirs = (await posted(client, "/v1/members", other, 201))["account_id"]
        changed = await client.patch(f"/v1/members/{account}", json={"version": 1, "phone": "+4915187654321"})
        assert (changed.json()["version"], changed.json()["phone_card"]) == (2, "unlinked")
        assert (await phones(client, account), await phones(client, theirs)) == ([], [("active", "21")])


async def test_a_number_that_was_handed_on_is_another_members_and_the_past_stays_the_first_ones(
    rig: OfficeRig,
) -> None:
    till = Till(rig)
    async with rig.client() as client:
        account = await registered(client)
        await rig.office.desk.adjust(b"a" * 16, account, 1_000, 0, "goodwill")
        phone = Enrolled(account, cards.card_of(rig.office, "phone", str(PERSON["phone"])))
        redeem = await till.ask(Operation.REDEEM, phone, points=300, amount=1_000)
        await client.patch(f"/v1/members/{account}", json={"version": 1, "phone": "+4915187654321"})
        other = {"personal": {"given_name": "Boris", "phone": PERSON["phone"]}, "phone_as_card": True}
        made = await posted(client, "/v1/members", other, 201)
        assert (made["not_linked"], made["account_id"] != account) == ([], True)
        assert await phones(client, made["account_id"]) == [("active", "89")]
        # The till has not heard the first answer, and asks again.
        await till.ask(Operation.REDEEM, phone, points=300, amount=1_000, request_id=redeem)
        balances = [
            (await client.get(f"/v1/accounts/{number}")).json()["balance"]["available"]
            for number in (account, made["account_id"])
        ]
        assert balances == [700, 0]


async def test_a_member_who_was_forgotten_comes_back_with_the_same_number(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        await posted(client, f"/v1/members/{account}/erase")
        asked = {"personal": PERSON, "phone_as_card": True}
        made = await posted(client, "/v1/members", asked, 201)
        assert (made["not_linked"], made["account_id"] != account) == ([], True)
        assert await phones(client, made["account_id"]) == [("active", "89")]
        assert await phones(client, account) == []


async def test_an_operator_takes_a_card_from_its_account(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        items = (await client.get(f"/v1/accounts/{account}/cards")).json()["items"]
        ref = next(card["card"] for card in items if card["kind"] == "phone")
        key = rig.key()
        for _ in range(2):
            answer = await client.post(f"/v1/cards/{ref}/unlink", headers=key)
            assert (answer.status_code, answer.json()) == (200, {"done": True})
        assert (await client.get(f"/v1/cards/{ref}")).status_code == 404
        await posted(client, f"/v1/cards/{ref}/unlink", status=404)
        entries = (await client.get(f"/v1/accounts/{account}/entries?operation=unlink")).json()["items"]
        assert [(e["operation"], e["cards"]) for e in entries] == [
            ("unlink", [{"card": ref, "masked": None, "status": "gone"}])
        ]
        assert entries[0]["by"]["action"] == "card.unlink"


async def test_an_unlinking_that_died_behind_the_ledger_is_repeated(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        items = (await client.get(f"/v1/accounts/{account}/cards")).json()["items"]
        ref = next(card["card"] for card in items if card["kind"] == "phone")
        for _ in range(2):
            await cards.unlink(rig.office, ANNA, ref, b"u" * 16)
        other = (await posted(client, "/v1/members", {"personal": PERSON, "phone_as_card": True}, 201))["account_id"]
        await cards.unlink(rig.office, ANNA, ref, b"u" * 16)
        assert await phones(client, other) == [("active", "89")]


@pytest.mark.parametrize("point", ["link", "_unlink_phone", "_write"])
async def test_a_change_of_phone_that_died_half_way_is_repeated(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    asked = {"version": 1, "phone": "+4915187654321"}
    async with rig.client() as client:
        account = await registered(client)
        with monkeypatch.context() as patch:
            patch.setattr(member_changes, point, died)
            with pytest.raises(RuntimeError):
                await member_changes.change(
                    rig.office, ANNA, account, member_changes.MemberChange.model_validate(asked)
                )
        left = {"link": ["89"], "_unlink_phone": ["89", "21"], "_write": ["21"]}[point]
        assert await phones(client, account) == [("active", digits) for digits in left]
        changed = await client.patch(f"/v1/members/{account}", json=asked)
        assert changed.status_code == 200, changed.text
        assert await phones(client, account) == [("active", "21")]


def died(*_args: object, **_more: object) -> None:
    raise RuntimeError("the process died here")


async def test_an_erased_member_leaves_account_and_journal_and_nothing_else(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        await client.patch(f"/v1/members/{account}", json={"version": 1, "family_name": "Smith"})
        await rig.office.desk.adjust(b"a" * 16, account, 1_000, 0, "goodwill")
        await posted(client, f"/v1/members/{account}/erase")
        await posted(client, f"/v1/members/{account}/erase")
        left = await statuses(client, account)
        assert "phone" not in left
        assert left["pan"][0] == "active"
        view = (await client.get(f"/v1/members/{account}?changes=true")).json()
        assert view["member"]["given_name"] is None
        assert view["member"]["erased_ms"] is not None
        assert [change["before"] for change in view["changes"]] == [None] * len(view["changes"])
        for said in ("Quillfeather", "Smith", PERSON["phone"], PERSON["email"]):
            items = (await posted(client, "/v1/members/search", {"text": said}))["items"]
            assert [(e["given_name"], e["erased"]) for e in items] in ([], [(None, True)]), said
        assert (await client.get(f"/v1/accounts/{account}")).json()["balance"]["available"] == 1_000
        assert (await client.patch(f"/v1/members/{account}", json={"version": 3})).status_code == 409
        await posted(client, "/v1/members", {"personal": PERSON, "account_id": account}, 409)
    async with rig.registry.reading() as transaction:
        assert await transaction.fetchval("SELECT count(*) FROM personal.lookup") == 0
        row = await transaction.fetchrow("SELECT data, greeting FROM personal.member WHERE account_id = $1", account)
    assert tuple(row) == (None, None)


@pytest.mark.parametrize("point", ["_unlink_phone", "erase"])
async def test_an_erasing_that_died_is_repeated(rig: OfficeRig, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    async with rig.client() as client:
        account = await registered(client)
        with monkeypatch.context() as patch:
            patch.setattr(member_changes if point == "_unlink_phone" else member_changes.members, point, died)
            with pytest.raises(RuntimeError):
                await erase(rig.office, ANNA, account, b"e" * 16)
        assert (await client.get(f"/v1/members/{account}")).json()["member"]["given_name"] == "Annabella"
        await erase(rig.office, ANNA, account, b"e" * 16)
        assert await phones(client, account) == []
        assert (await client.get(f"/v1/members/{account}")).json()["member"]["given_name"] is None


async def test_an_erased_member_has_no_tokens_and_no_greeting_at_the_till(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client)
        token = (await posted(client, "/v1/member-tokens", {"account_id": account, "seconds": 60}, 201))["token"]
        await posted(client, f"/v1/members/{account}/erase")
    async with rig.anonymous() as member:
        member.headers["authorization"] = f"Bearer {token}"
        assert (await member.get("/v1/me")).status_code == 401


async def test_nothing_of_a_person_and_no_number_stands_anywhere_in_clear(
    rig: OfficeRig, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[str] = []
    with structlog.testing.capture_logs() as logs:
        async with rig.client() as client:
            account = await registered(client)
            wrong = {"personal": {**PERSON, "phone": "15123456789"}, "cards": [{"kind": "pan", "number": NUMBER}]}
            answers += [
                (await client.post("/v1/members", json=wrong, headers=rig.key())).text,
                (await client.post("/v1/members", json={"personal": PERSON, "x": NUMBER}, headers=rig.key())).text,
                (await client.post("/v1/members", json={"personal": PERSON, "phone_as_card": True},
                                   headers=rig.key())).text,
                (await client.post("/v1/cards", json={"card": {"kind": "pan", "number": NUMBER}},
                                   headers=rig.key())).text,
                (await client.post("/v1/cards", json={"card": {"kind": "ean13", "number": NUMBER}},
                                   headers=rig.key())).text,
                (await client.patch(f"/v1/members/{account}", json={"version": 7, **PERSON})).text,
            ]  # fmt: skip
            await client.patch(f"/v1/members/{account}", json={"version": 1, "given_name": "Annabella Bea"})
            for said in (*PLANTED, f"{PERSON['given_name']} {PERSON['family_name']}"):
                await posted(client, "/v1/members/search", {"text": said})
                await posted(client, "/v1/cards/find", {"text": said})
            drawn = await posted(client, "/v1/cards", {"card": {"kind": "ean13", "prefix": "29"}}, 201)
            batch = {"name": "Spring", "kind": "ean13", "count": 9, "prefix": "28"}
            made = await posted(client, "/v1/card-batches", batch, 201)
            lines = (await client.get(f"/v1/card-batches/{made['batch_id']}/numbers")).text.splitlines()[1:]
            await Till(rig).ask(Operation.EARN, rig.cards[0], amount=100)
    planted = (*PLANTED, drawn["number"], *rig.numbers, *(line.partition(",")[0] for line in lines))
    assert all("problems" in answer for answer in answers), answers
    heaps = {
        "database": "\n".join(await every_text(rig.postgres_url)),
        "answers": "\n".join(answers),
        "logs": repr(logs),
        "output": "".join(capsys.readouterr()),
    }
    assert "Spring" in heaps["database"]
    for where, heap in heaps.items():
        assert [what for what in planted if what in heap.casefold()] == [], where
