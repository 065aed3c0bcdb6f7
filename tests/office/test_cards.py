import csv
import io
from typing import Any

import httpx
import pytest

from admin_api.cards import card_batches
from admin_api.cards.card_batches import BatchAsked
from admin_api.cards.cards import CardView, IssueAsked, NumberAsked, issue
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from protocol.codes import CardKind
from protocol.tokens import canonical
from tests.rigs.office_rig import EVERYTHING, OfficeRig

LOST = {"reason": "lost"}
ANNA = Actor("user:1", "Anna", EVERYTHING)


async def posted(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    answer = await client.post(path, json=body, headers=OfficeRig.key())
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def card_named(client: httpx.AsyncClient, text: str) -> dict[str, Any]:
    (card,) = (await posted(client, "/v1/cards/find", {"text": text}))["items"]
    told: dict[str, Any] = card
    return told


async def issued(client: httpx.AsyncClient, kind: str, number: str, **more: Any) -> dict[str, Any]:
    return await posted(client, "/v1/cards", {"card": {"kind": kind, "number": number}, **more}, 201)


@pytest.mark.parametrize(
    ("kind", "number", "shown"),
    [
        ("ean13", "2999999999991", ["2999999999991", "2 999999 999991", "2-999999-999991"]),
        (
            "pan",
            "9643100000000010",
            ["9643 1000 0000 0010", ";9643100000000010=2512?", "%B9643100000000010^DOE/JANE^2512?"],
        ),
        ("phone", "+79123456789", ["+7 (912) 345-67-89", "89123456789", "79123456789", "007 912 345 67 89"]),
        ("virtual", "wallet-7Hq2ZkP0", ["wallet-7Hq2ZkP0"]),
    ],
)
async def test_a_card_is_found_in_every_form_in_which_it_is_shown(
    rig: OfficeRig, kind: str, number: str, shown: list[str]
) -> None:
    async with rig.client() as client:
        made = (await issued(client, kind, number))["card"]
        for text in shown:
            assert (await card_named(client, text))["card"] == made["card"], text
        assert (await posted(client, "/v1/cards/find", {"text": "nothing"}))["items"] == []


async def test_a_card_goes_from_issued_to_active_to_blocked_and_back(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = (await issued(client, "virtual", "wallet-7Hq2ZkP0", active=False))["card"]
        path = f"/v1/cards/{made['card']}"
        assert made["status"] == "issued"
        assert (await posted(client, f"{path}/activate"))["status"] == "active"
        again = await posted(client, f"{path}/activate", status=409)
        assert again["outcome"] == "ALREADY_ACTIVE"
        assert (await posted(client, f"{path}/block", LOST))["status"] == "blocked"
        assert (await posted(client, f"{path}/unblock"))["status"] == "active"
        assert (await client.get(path)).json()["status"] == "active"


async def test_a_replaced_card_leaves_its_points_and_its_history_to_the_new_one(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    await rig.office.desk.adjust(b"a" * 16, account, 500, 0, "goodwill")
    async with rig.client() as client:
        old = await card_named(client, rig.numbers[0])
        asked = {"card": {"kind": "ean13", "prefix": "29"}, "reason": "lost"}
        told = await posted(client, f"/v1/cards/{old['card']}/replace", asked)
        assert told["number"].startswith("29")
        assert canonical(CardKind.EAN13, told["number"])
        new = await card_named(client, told["number"])
        assert (new["account_id"], new["status"]) == (account, "active")
        assert (await card_named(client, rig.numbers[0]))["status"] == "replaced"
        view = (await client.get(f"/v1/accounts/{account}")).json()
        assert (view["balance"]["available"], view["entries"]) == (500, 2)


async def test_a_repeated_issue_tells_the_same_number_and_makes_one_card(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    for asked in (
        {"card": {"kind": "pan", "prefix": "9643"}, "account_id": account},
        {"card": {"kind": "pan", "prefix": "9643"}},
    ):
        async with rig.client() as client:
            key = rig.key()
            first = await client.post("/v1/cards", json=asked, headers=key)
            again = await client.post("/v1/cards", json=asked, headers=key)
            assert first.status_code == 201
            assert first.json() == again.json()
            assert (await card_named(client, first.json()["number"]))["card"] == first.json()["card"]["card"]
    async with rig.registry.reading() as transaction:
        assert await transaction.fetchval("SELECT count(*) FROM card") == len(rig.cards) + 2


async def test_an_issue_that_died_after_the_ledger_did_its_part_goes_on_with_the_same_number(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = rig.cards[0].account
    asked = IssueAsked(card=NumberAsked(kind="ean13", prefix="29"), account_id=account)
    with monkeypatch.context() as patch:
        patch.setattr(CardView, "of", died)
        with pytest.raises(RuntimeError):
            await issue(rig.office, ANNA, asked, b"i" * 16)
    told = await issue(rig.office, ANNA, asked, b"i" * 16)
    assert told.number is not None
    async with rig.client() as client:
        cards = (await client.get(f"/v1/accounts/{account}/cards")).json()["items"]
        assert len(cards) == 2
        assert (await card_named(client, told.number))["account_id"] == account


async def test_a_card_that_began_to_work_for_an_issue_that_died_is_told_by_the_repetition(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = (await issued(client, "virtual", "wallet-7Hq2ZkP0", active=False))["card"]
    asked = IssueAsked(card=NumberAsked(kind="virtual", number="wallet-7Hq2ZkP0"), account_id=made["account_id"])
    for _ in range(2):
        assert (await issue(rig.office, ANNA, asked, b"i" * 16)).card.status == "active"


def died(*_args: object, **_more: object) -> None:
    raise RuntimeError("the process died here")


async def test_a_number_that_is_none_is_refused_and_not_told_back(rig: OfficeRig) -> None:
    async with rig.client() as client:
        for card in (
            {"kind": "ean13", "number": "2999999999998"},
            {"kind": "phone", "prefix": "49"},
            {"kind": "ean13", "prefix": "2" * 12},
            {"kind": "ean13"},
            {"kind": "pan", "number": "9643100000000010", "prefix": "96"},
        ):
            answer = await client.post("/v1/cards", json={"card": card}, headers=rig.key())
            assert answer.status_code == 422, card
            assert "2999999999998" not in answer.text
        assert (await client.get(f"/v1/cards/{'0' * 32}")).status_code == 404


async def test_an_issued_card_of_a_batch_comes_to_the_account_that_takes_it(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    async with rig.client() as client:
        batch = await posted(client, "/v1/card-batches", BATCH, 201)
        number = (await exported(client, batch["batch_id"]))[0]["number"]
        told = await issued(client, "ean13", number, account_id=account)
        assert (told["card"]["account_id"], told["card"]["status"], told["number"]) == (account, "active", None)
        assert told["card"]["batch"] == "Spring"
        counts = (await client.get(f"/v1/card-batches/{batch['batch_id']}")).json()
        assert (counts["issued"], counts["active"]) == (49, 1)


BATCH = {"name": "Spring", "kind": "ean13", "count": 50, "prefix": "29"}


async def exported(client: httpx.AsyncClient, batch_id: int) -> list[dict[str, str]]:
    answer = await client.get(f"/v1/card-batches/{batch_id}/numbers")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.mark.parametrize(
    ("kind", "prefix", "wire"),
    [("ean13", "29", CardKind.EAN13), ("pan", "964310", CardKind.PAN), ("virtual", "w-", CardKind.VIRTUAL)],
)
async def test_the_printer_gets_every_number_of_a_batch_with_its_check_digit(
    rig: OfficeRig, kind: str, prefix: str, wire: CardKind
) -> None:
    async with rig.client() as client:
        batch = await posted(client, "/v1/card-batches", {**BATCH, "kind": kind, "prefix": prefix}, 201)
        rows = await exported(client, batch["batch_id"])
        assert rows == await exported(client, batch["batch_id"])
        numbers = [row["number"] for row in rows]
        assert len(set(numbers)) == 50
        assert [row["sequence"] for row in rows] == [str(i + 1) for i in range(50)]
        for row in rows:
            assert canonical(wire, row["number"])
            assert row["number"].startswith(prefix)
            assert row["printed"].replace(" ", "") == row["number"]
            assert wire == CardKind.VIRTUAL or row["check_digit"] == row["number"][-1]
        card = await card_named(client, numbers[7])
        assert (card["batch_id"], card["status"]) == (batch["batch_id"], "issued")


async def test_numbers_in_sequence_begin_where_they_are_told_and_refuse_what_is_taken(rig: OfficeRig) -> None:
    asked = {**BATCH, "count": 3, "order": "sequence", "first": 41, "active": True}
    async with rig.client() as client:
        batch = await posted(client, "/v1/card-batches", asked, 201)
        assert [row["number"][:12] for row in await exported(client, batch["batch_id"])] == [
            "290000000041", "290000000042", "290000000043",
        ]  # fmt: skip
        assert batch["active"] == 3
        await posted(client, "/v1/card-batches", {**asked, "first": 43}, 409)
        assert len((await client.get("/v1/card-batches")).json()["items"]) == 1


async def test_scattered_numbers_leave_out_those_that_are_cards_already(rig: OfficeRig) -> None:
    narrow = {**BATCH, "prefix": "29" + "0" * 8, "count": 60}
    async with rig.client() as client:
        first = await posted(client, "/v1/card-batches", narrow, 201)
        second = await posted(client, "/v1/card-batches", {**narrow, "count": 40}, 201)
        numbers = {row["number"] for b in (first, second) for row in await exported(client, b["batch_id"])}
        assert len(numbers) == 100
        for number in sorted(numbers)[::9]:
            assert (await card_named(client, number))["batch_id"] in (first["batch_id"], second["batch_id"])
        await posted(client, "/v1/card-batches", {**narrow, "count": 1}, 409)
        await posted(client, "/v1/card-batches", {**narrow, "count": 101}, 422)
        await posted(client, "/v1/card-batches", {**BATCH, "count": 100_001}, 422)


async def test_a_batch_is_made_whole_or_not_at_all(rig: OfficeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(card_batches, "audited", died)
        with pytest.raises(RuntimeError):
            await card_batches.make_batch(rig.office, ANNA, BatchAsked.model_validate(BATCH), b"b" * 16)
    async with rig.client() as client:
        assert (await client.get("/v1/card-batches")).json()["items"] == []
        key = rig.key()
        for _ in range(2):
            assert (await client.post("/v1/card-batches", json=BATCH, headers=key)).status_code == 201
        (batch,) = (await client.get("/v1/card-batches")).json()["items"]
        assert batch["issued"] == 50


async def test_only_who_may_change_cards_gets_their_numbers_and_each_export_is_written_down(rig: OfficeRig) -> None:
    async with rig.client() as client:
        batch_id = (await posted(client, "/v1/card-batches", BATCH, 201))["batch_id"]
        await exported(client, batch_id)
    async with rig.client(Permission.CARDS_READ) as client:
        assert (await client.get(f"/v1/card-batches/{batch_id}/numbers")).status_code == 403
    async with rig.client(*Permission, partner_id=1) as client:
        for path in ("/v1/card-batches", f"/v1/card-batches/{batch_id}/numbers", f"/v1/cards/{'0' * 32}"):
            assert (await client.get(path)).status_code == 403
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT action FROM office.audit ORDER BY audit_id")
    assert [row["action"] for row in rows] == ["card_batch.make", "card_batch.export"]
