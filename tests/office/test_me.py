"""What a member's token shows: one account, and no other."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from ledger.operations import Operation
from ledger.programme import EPOCH
from tests.rigs.office_rig import OfficeRig
from tests.rigs.till import Till


async def registered(client: httpx.AsyncClient, rig: OfficeRig, card: int, name: str) -> int:
    asked = {
        "personal": {"given_name": name, "phone": f"+4915123456{card:03d}"},
        "cards": [{"kind": "ean13", "number": rig.numbers[card]}],
    }
    answer = await client.post("/v1/members", json=asked, headers=rig.key())
    assert answer.status_code == 201, answer.text
    return int(answer.json()["account_id"])


@asynccontextmanager
async def signed_in(client: httpx.AsyncClient, rig: OfficeRig, account: int) -> AsyncIterator[httpx.AsyncClient]:
    asked = {"account_id": account, "seconds": 600}
    token = (await client.post("/v1/member-tokens", json=asked, headers=rig.key())).json()["token"]
    async with rig.anonymous() as member:
        member.headers["authorization"] = f"Bearer {token}"
        yield member


async def got(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_member_sees_balance_history_and_what_expires_when(rig: OfficeRig) -> None:
    tomorrow = rig.office.desk.today() + 1
    async with rig.client() as client:
        account = await registered(client, rig, 0, "Anna")
        await registered(client, rig, 1, "Boris")
        for points, day in ((100, tomorrow + 1), (50, tomorrow), (25, 0)):
            await rig.office.desk.adjust(os.urandom(16), account, points, day, "goodwill")
        await rig.office.desk.adjust(os.urandom(16), rig.cards[1].account, 9_999, 0, "goodwill")
        await Till(rig).ask(Operation.REDEEM, rig.cards[0], points=10, amount=1_000)
        async with signed_in(client, rig, account) as member:
            assert (await got(member, "/v1/me/balance"))["available"] == 165
            days = [EPOCH.fromordinal(EPOCH.toordinal() + tomorrow + i).isoformat() for i in (0, 1)]
            assert (await got(member, "/v1/me/expiring"))["items"] == [
                {"on": days[0], "points": 40}, {"on": days[1], "points": 100},
            ]  # fmt: skip
            entries = (await got(member, "/v1/me/entries"))["items"]
            assert [entry["operation"] for entry in entries] == ["redeem", "adjust", "adjust", "adjust"]
            assert {entry["by"] for entry in entries if entry["by"] is None} == {None}
            assert all(entry["by"] is None for entry in entries)
            assert {entry["account_id"] for entry in entries} == {account}
            assert len((await got(member, "/v1/me/entries?operation=redeem"))["items"]) == 1


async def test_a_member_changes_own_data_and_both_look_and_change_are_written_down(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client, rig, 0, "Anna")
        async with signed_in(client, rig, account) as member:
            assert (await got(member, "/v1/me"))["given_name"] == "Anna"
            changed = await member.patch("/v1/me", json={"version": 1, "given_name": "Ann"})
            assert (changed.status_code, changed.json()["given_name"], changed.json()["version"]) == (200, "Ann", 2)
            assert (await member.patch("/v1/me", json={"version": 1})).status_code == 409
            assert (await member.patch("/v1/me", json={"version": 2, "store_id": 1})).status_code == 422
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT action FROM office.audit WHERE actor = $1", f"member:{account}")
    assert [row["action"] for row in rows] == ["member.look", "member.change", "member.look"]


async def test_a_member_blocks_an_own_card_and_no_other(rig: OfficeRig) -> None:
    async with rig.client() as client:
        anna, boris = await registered(client, rig, 0, "Anna"), await registered(client, rig, 1, "Boris")
        (theirs,) = (await got(client, f"/v1/accounts/{boris}/cards"))["items"]
        async with signed_in(client, rig, anna) as member:
            (own,) = (await got(member, "/v1/me/cards"))["items"]
            assert own["account_id"] == anna
            for card, status in ((own, 200), (theirs, 404), ({"card": "0" * 32}, 404)):
                path = f"/v1/me/cards/{card['card']}/block"
                answer = await member.post(path, json={"reason": "lost"}, headers=rig.key())
                assert answer.status_code == status, answer.text
        assert (await got(client, f"/v1/cards/{own['card']}"))["status"] == "blocked"
        assert (await got(client, f"/v1/cards/{theirs['card']}"))["status"] == "active"


async def test_a_members_token_opens_nothing_that_is_for_operators_and_an_operators_nothing_of_a_member(
    rig: OfficeRig,
) -> None:
    async with rig.client() as client:
        anna, boris = await registered(client, rig, 0, "Anna"), await registered(client, rig, 1, "Boris")
        async with signed_in(client, rig, anna) as member:
            for path in (
                f"/v1/members/{boris}", f"/v1/members/{anna}", f"/v1/accounts/{boris}", f"/v1/accounts/{anna}",
                f"/v1/accounts/{boris}/entries", f"/v1/accounts/{boris}/cards", f"/v1/requests/{'0' * 32}",
                "/v1/adjustments", "/v1/card-batches",
            ):  # fmt: skip
                assert (await member.get(path)).status_code == 403, path
            for path in ("/v1/members/search", "/v1/cards/find"):
                answer = await member.post(path, json={"text": "Boris"}, headers=rig.key())
                assert answer.status_code == 403, path
        for path in ("/v1/me", "/v1/me/balance", "/v1/me/entries", "/v1/me/expiring", "/v1/me/cards"):
            assert (await client.get(path)).status_code == 403, path


async def test_a_member_cannot_make_a_card_of_somebody_elses_number(rig: OfficeRig) -> None:
    async with rig.client() as client:
        account = await registered(client, rig, 0, "Anna")
        linked = await client.post(f"/v1/members/{account}/phone-card", headers=rig.key())
        assert linked.status_code == 200, linked.text
        async with signed_in(client, rig, account) as member:
            version = (await got(member, "/v1/me"))["version"]
            taken = await member.patch("/v1/me", json={"version": version, "phone": "+4915199999999"})
            assert (taken.status_code, "works as a card" in taken.json()["detail"]) == (409, True)
            given_up = await member.patch("/v1/me", json={"version": version, "phone": None})
            assert given_up.status_code == 200, given_up.text
