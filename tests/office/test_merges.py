"""Two accounts of one person become one, whatever dies on the way."""

import os
from dataclasses import replace
from typing import Any

import httpx
import pytest

from admin_api.accounts import merges
from admin_api.accounts.finishing import Finishing
from admin_api.accounts.merges import MergeAsked, finish_merges, merge
from admin_api.members.members import MemberAsked, create
from admin_api.security.actor import Actor
from ledger.clock import SystemClock
from ledger.operations import Operation
from tests.rigs.office_rig import EVERYTHING, OfficeRig
from tests.rigs.till import Till

ANNA = Actor("user:1", "Anna", EVERYTHING)
WHY = "one person, two cards"


async def posted(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    answer = await client.post(path, json=body, headers=OfficeRig.key())
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def two_accounts(rig: OfficeRig) -> tuple[int, int]:
    """Return source and target with 300 and 500 points, and a member each."""
    source, target = rig.cards[0].account, rig.cards[1].account
    await rig.office.desk.adjust(os.urandom(16), source, 300, 0, "goodwill")
    await rig.office.desk.adjust(os.urandom(16), target, 500, 0, "goodwill")
    for account, name in ((source, "Oldname"), (target, "Newname")):
        person = {"given_name": "Anna", "family_name": name}
        asked = MemberAsked.model_validate({"personal": person, "account_id": account})
        await create(rig.office, ANNA, asked, account.to_bytes(16, "big"))
    return source, target


async def check_merged(rig: OfficeRig, source: int, target: int) -> None:
    async with rig.client() as client:
        new = (await client.get(f"/v1/accounts/{target}")).json()
        assert new["balance"]["available"] == 800
        assert len(new["cards"]) == 2
        old = (await client.get(f"/v1/accounts/{source}")).json()
        assert (old["status"], old["merged_into"], old["lots"], old["cards"]) == ("closed", target, [], [])
        assert (await client.get(f"/v1/members/{source}")).status_code == 404
        told = (await client.get(f"/v1/members/{target}?changes=true")).json()
        assert told["member"]["family_name"] == "Newname"
        assert told["changes"][0]["before"] == {"merged_from": source, "given_name": "Anna", "family_name": "Oldname"}
        for said in ("Oldname", "Newname", rig.numbers[0]):
            items = (await posted(client, "/v1/members/search", {"text": said}))["items"]
            assert [each["account_id"] for each in items] == [target], said
    assert await Till(rig).outcome(Operation.BALANCE, rig.cards[0]) == 0


async def test_a_merged_account_has_the_points_and_cards_of_both_and_is_found_by_what_found_either(
    rig: OfficeRig,
) -> None:
    source, target = await two_accounts(rig)
    key, asked = rig.key(), {"source": source, "reason": WHY}
    async with rig.client() as client:
        first = await client.post(f"/v1/accounts/{target}/merge", json=asked, headers=key)
        again = await client.post(f"/v1/accounts/{target}/merge", json=asked, headers=key)
        assert (first.status_code, first.json()["state"]) == (200, "done"), first.text
        assert again.json() == first.json()
        assert (await posted(client, f"/v1/accounts/{target}/merge", asked))["state"] == "done"
        entries = (await client.get(f"/v1/accounts/{target}/entries")).json()["items"]
        assert (entries[0]["operation"], entries[0]["points"], entries[0]["by"]["reason"]) == ("merge_in", 300, WHY)
    await check_merged(rig, source, target)


@pytest.mark.parametrize("sweep", [True, False])
@pytest.mark.parametrize("point", ["before out", "after out", "after in", "people"])
async def test_a_merge_that_died_is_brought_to_its_end(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch, point: str, sweep: bool
) -> None:
    source, target = await two_accounts(rig)
    asked = MergeAsked(source=source, reason=WHY)
    place = {"before out": "do", "after out": "_step", "after in": "_join_people", "people": "_row"}[point]
    with monkeypatch.context() as patch:
        patch.setattr(merges, place, died)
        with pytest.raises(RuntimeError):
            await merge(rig.office, ANNA, target, asked, b"m" * 16)
    if sweep:
        assert await finish_merges(rig.office, grace_ms=-1) == 1
        assert await finish_merges(rig.office, grace_ms=-1) == 0
    assert (await merge(rig.office, ANNA, target, asked, b"m" * 16)).state == "done"
    await check_merged(rig, source, target)


def died(*_args: object, **_more: object) -> None:
    raise RuntimeError("the process died here")


async def test_what_cannot_become_one_is_refused_and_may_be_tried_again(rig: OfficeRig) -> None:
    source, target = await two_accounts(rig)
    other = rig.cards[2].account
    hold = await Till(rig).ask(Operation.HOLD, rig.cards[0], points=100, amount=1_000)
    asked = {"source": source, "reason": WHY}
    async with rig.client() as client:
        declined = await posted(client, f"/v1/accounts/{target}/merge", asked, 409)
        assert declined["outcome"] == "TOO_MANY_HOLDS"
        await posted(client, f"/v1/accounts/{source}/merge", asked, 409)
        await posted(client, "/v1/accounts/999/merge", asked, 404)
        await posted(client, f"/v1/accounts/{source}/holds/{hold.hex()}/release", {"reason": "x"})
        await posted(client, f"/v1/accounts/{target}/merge", asked)
        await posted(client, f"/v1/accounts/{other}/merge", asked, 409)
        await posted(client, f"/v1/accounts/{source}/merge", {"source": other, "reason": WHY}, 409)
    await check_merged(rig, source, target)


async def test_an_account_without_a_member_takes_the_others(rig: OfficeRig) -> None:
    source, target = rig.cards[0].account, rig.cards[1].account
    asked = MemberAsked.model_validate({"personal": {"given_name": "Anna"}, "account_id": source})
    await create(rig.office, ANNA, asked, b"c" * 16)
    async with rig.client() as client:
        await posted(client, f"/v1/accounts/{target}/merge", {"source": source, "reason": WHY})
        assert (await client.get(f"/v1/members/{target}")).json()["member"]["given_name"] == "Anna"
        await posted(client, "/v1/members", {"personal": {}, "account_id": source}, 409)
        await posted(client, "/v1/members", {"personal": {}, "account_id": 999}, 404)


async def test_erasing_after_a_merge_forgets_what_came_with_it(rig: OfficeRig) -> None:
    source, target = await two_accounts(rig)
    async with rig.client() as client:
        await client.patch(f"/v1/members/{source}", json={"version": 1, "given_name": "Ann"})
        await posted(client, f"/v1/accounts/{target}/merge", {"source": source, "reason": WHY})
        await posted(client, f"/v1/members/{target}/erase")
        for said in ("Oldname", "Newname"):
            assert (await posted(client, "/v1/members/search", {"text": said}))["items"] == []
    async with rig.registry.reading() as transaction:
        kept = await transaction.fetchval("SELECT count(*) FROM personal.change WHERE before IS NOT NULL")
    assert kept == 0


async def test_the_process_goes_on_with_what_was_left_unfinished(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = await two_accounts(rig)
    later = replace(rig.office, clock=Later())
    with monkeypatch.context() as patch:
        patch.setattr(merges, "_join_people", died)
        with pytest.raises(RuntimeError):
            await merge(rig.office, ANNA, target, MergeAsked(source=source, reason=WHY), b"m" * 16)
    assert await Finishing(rig.office).once() == 0, "whoever is at it has a while"
    assert await Finishing(later).once() == 1
    await check_merged(rig, source, target)


class Later(SystemClock):
    def now_ms(self) -> int:
        return super().now_ms() + 60_000


async def test_what_is_merged_into_somebody_who_was_erased_is_forgotten_as_well(rig: OfficeRig) -> None:
    source, target = await two_accounts(rig)
    async with rig.client() as client:
        await client.patch(f"/v1/members/{source}", json={"version": 1, "given_name": "Ann"})
        await posted(client, f"/v1/members/{target}/erase")
        await posted(client, f"/v1/accounts/{target}/merge", {"source": source, "reason": WHY})
        assert (await client.get(f"/v1/members/{target}")).json()["member"]["given_name"] is None
        assert (await posted(client, "/v1/members/search", {"text": "Oldname"}))["items"] == []
    async with rig.registry.reading() as transaction:
        kept = await transaction.fetchval("SELECT count(*) FROM personal.change WHERE before IS NOT NULL")
    assert kept == 0
