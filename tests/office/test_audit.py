import csv
import io

import pytest

from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from tests.rigs.office_rig import EVERYTHING, OfficeRig

ANNA = Actor("user:1", "=cmd|Anna", EVERYTHING, address="10.0.0.1")
PARTNERS = Actor("user:2", "Pavel", EVERYTHING, partner_id=1)


async def written(rig: OfficeRig) -> int:
    account = rig.cards[0].account
    async with rig.registry.writing() as transaction:
        for n in range(3):
            await audited(
                rig.office, ANNA, transaction, "card.block", f"card:{n}", account=account, request_id=bytes([n] * 16),
                detail={"n": n},
            )  # fmt: skip
        await audited(rig.office, PARTNERS, transaction, "terminal.rotate", "terminal:till-1", partner_id=1, store_id=1)
    return account


@pytest.mark.parametrize(
    ("wanted", "subjects"),
    [
        ({}, ["terminal:till-1", "card:2", "card:1", "card:0"]),
        ({"actor": "user:2"}, ["terminal:till-1"]),
        ({"action": "card.block"}, ["card:2", "card:1", "card:0"]),
        ({"action": "card"}, ["card:2", "card:1", "card:0"]),
        ({"action": "car"}, []),
        ({"request_id": "01" * 16}, ["card:1"]),
        ({"subject": "card:0"}, ["card:0"]),
        ({"actor": "user:1", "subject": "card:0"}, ["card:0"]),
        ({"until_ms": "1"}, []),
        ({"from_ms": "1"}, ["terminal:till-1", "card:2", "card:1", "card:0"]),
    ],
)
async def test_entries_are_found_by_what_is_asked(rig: OfficeRig, wanted: dict[str, str], subjects: list[str]) -> None:
    await written(rig)
    async with rig.client(Permission.AUDIT_READ) as client:
        items = (await client.get("/v1/audit", params=wanted)).json()["items"]
    assert [item["subject"] for item in items] == subjects


async def test_entries_of_an_account_come_page_by_page(rig: OfficeRig) -> None:
    account = await written(rig)
    async with rig.client(Permission.AUDIT_READ) as client:
        first = (await client.get("/v1/audit", params={"account_id": account, "limit": 2})).json()
        cursor = {"account_id": account, "limit": 2, "cursor": first["next"]}
        second = (await client.get("/v1/audit", params=cursor)).json()
    subjects = [item["subject"] for item in first["items"] + second["items"]]
    assert (subjects, second["next"]) == (["card:2", "card:1", "card:0"], None)
    assert first["items"][0]["request_id"] == "02" * 16
    assert first["items"][0]["detail"] == {"n": 2}


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/export.csv"])
async def test_a_partner_sees_entries_of_its_own_only(rig: OfficeRig, path: str) -> None:
    await written(rig)
    async with rig.client(Permission.AUDIT_READ, partner_id=1) as client:
        text = (await client.get(path)).text
    assert "terminal:till-1" in text
    assert "card:" not in text


async def test_the_export_is_a_file_for_spreadsheets_that_runs_nothing(rig: OfficeRig) -> None:
    await written(rig)
    async with rig.client(Permission.AUDIT_READ) as client:
        answer = await client.get("/v1/audit/export.csv", params={"action": "card"})
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["subject"] for row in rows] == ["card:2", "card:1", "card:0"]
        assert {row["actor_name"] for row in rows} == {"'=cmd|Anna"}
        looked = (await client.get("/v1/audit", params={"action": "audit.export"})).json()["items"]
    assert len(looked) == 1


async def test_a_long_export_is_whole(rig: OfficeRig) -> None:
    async with rig.registry.writing() as transaction:
        for n in range(1_203):
            await audited(rig.office, ANNA, transaction, "card.look", f"card:{n}")
    async with rig.client(Permission.AUDIT_READ) as client:
        answer = await client.get("/v1/audit/export.csv", params={"action": "card.look"})
    subjects = [row["subject"] for row in csv.DictReader(io.StringIO(answer.text))]
    assert subjects == [f"card:{n}" for n in reversed(range(1_203))]


@pytest.mark.parametrize("wrong", [{"request_id": "xyz"}, {"from_ms": "-1"}, {"account_id": "0"}, {"actor": "a\x00"}])
async def test_a_wrong_filter_is_refused(rig: OfficeRig, wrong: dict[str, str]) -> None:
    async with rig.client(Permission.AUDIT_READ) as client:
        assert (await client.get("/v1/audit", params=wrong)).status_code == 422
