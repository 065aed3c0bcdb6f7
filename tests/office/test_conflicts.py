import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from admin_api.security.permissions import ROLES, Permission, Role
from ledger.operations import Operation, Outcome
from protocol.codes import ErrorCode
from tests.office.test_relays import NEW, other_store, post, refused
from tests.rigs.conflicts import MINUTE_MS, add_conflict
from tests.rigs.office_rig import EVERYTHING, OfficeRig

REQUEST = bytes(range(16))


@dataclass
class Two:
    """Two partners' stores with a relay each, and a conflict in each of them."""

    rig: OfficeRig
    now_ms: int
    relay: int
    conflict: int
    far_store: int
    far_relay: int
    far_conflict: int


@pytest.fixture
async def two(rig: OfficeRig) -> Two:
    async with rig.client() as client:
        relay = (await post(rig, client, "/v1/relays", NEW))["relay_id"]
        far = await other_store(rig, client)
        far_relay = (await post(rig, client, "/v1/relays", {"store_id": far, "code": "far-relay"}))["relay_id"]
        till = await post(rig, client, "/v1/terminals", {"store_id": far, "code": "far-1", "permitted": ["earn"]})
    now_ms = rig.clock.now_ms()
    account = rig.cards[0].account
    near = await add_conflict(rig.postgres_url, relay, now_ms, request_id=REQUEST, account_id=account)
    other = await add_conflict(
        rig.postgres_url, far_relay, now_ms, terminal_id=till["terminal_id"], op=int(Operation.REDEEM), points=700,
        outcome=int(ErrorCode.ID_REUSED),
    )  # fmt: skip
    return Two(rig, now_ms, relay, near, far, far_relay, other)


async def ids(client: httpx.AsyncClient, **query: Any) -> list[int]:
    answer = await client.get("/v1/conflicts", params=query)
    assert answer.status_code == 200, answer.text
    return [one["conflict_id"] for one in answer.json()["items"]]


async def test_a_conflict_tells_what_the_register_was_promised_and_why_it_is_not_so(two: Two) -> None:
    async with two.rig.client() as client:
        assert (await client.get(f"/v1/conflicts/{two.conflict}")).json() == {
            "conflict_id": two.conflict, "state": "open", "request_id": REQUEST.hex(), "relay_id": two.relay,
            "relay": "relay-1", "terminal": "till-1", "store_id": 1, "store": "Mill Street", "network_id": 1,
            "network": "Harvest Market", "partner_id": 1, "operation": "earn", "outcome": "card_blocked",
            "card": "****0015", "account_id": two.rig.cards[0].account, "points": 0, "amount": 2_500,
            "currency": "EUR", "reference": "R-1042", "sale_ms": two.now_ms - 60 * MINUTE_MS, "at_ms": two.now_ms,
            "settled_ms": None, "settled_by": None, "note": None,
        }  # fmt: skip
        far = (await client.get(f"/v1/conflicts/{two.far_conflict}")).json()
        assert (far["operation"], far["points"], far["store"]) == ("redeem", 700, "Far Away")
        assert far["outcome"] == "id_reused", "what is below the declines is an error's code"


async def test_conflicts_are_listed_by_where_they_happened_and_whether_they_are_open(two: Two) -> None:
    async with two.rig.client() as client:
        assert await ids(client) == [two.far_conflict, two.conflict]
        assert await ids(client, store_id=1) == [two.conflict]
        assert await ids(client, relay_id=two.far_relay) == [two.far_conflict]
        assert await ids(client, network_id=1, partner_id=1) == [two.conflict]
        assert await ids(client, account_id=two.rig.cards[0].account) == [two.conflict]
        assert await ids(client, request_id=REQUEST.hex()) == [two.conflict]
        page = (await client.get("/v1/conflicts", params={"limit": 1})).json()
        assert await ids(client, cursor=page["next"]) == [two.conflict]
        await post(two.rig, client, f"/v1/conflicts/{two.conflict}/settle", {"note": "25 points given by hand"})
        assert await ids(client, state="open") == [two.far_conflict]
        assert await ids(client, state="settled") == [two.conflict]
        assert (await client.get(f"/v1/relays/{two.relay}")).json()["conflicts"] == 0
        assert (await client.get(f"/v1/relays/{two.far_relay}")).json()["conflicts"] == 1


async def test_settling_notes_who_when_and_what_was_done(two: Two) -> None:
    path = f"/v1/conflicts/{two.conflict}/settle"
    async with two.rig.client() as client:
        for wrong in ({}, {"note": ""}, {"note": "   "}, {"note": "x" * 501}, {"note": "a\nb"}):
            assert (await client.post(path, json=wrong, headers=two.rig.key())).status_code == 422
        key = two.rig.key()
        first = await client.post(path, json={"note": " given by hand "}, headers=key)
        again = await client.post(path, json={"note": " given by hand "}, headers=key)
        assert first.json() == again.json()
        settled = (await client.get(f"/v1/conflicts/{two.conflict}")).json()
        assert (settled["state"], settled["note"]) == ("settled", "given by hand")
        assert settled["settled_by"].startswith("token:")
        assert settled["settled_ms"] >= two.now_ms
        assert "settled already" in await refused(two.rig, client, path, {"note": "once more"})
        assert (await client.get(f"/v1/conflicts/{two.conflict}")).json() == settled
    async with two.rig.registry.reading() as transaction:
        (row,) = await transaction.fetch("SELECT * FROM office.audit WHERE action = 'conflict.settle'")
    assert (row["subject"], row["account_id"], row["store_id"], row["request_id"]) == (
        f"conflict:{two.conflict}", two.rig.cards[0].account, 1, REQUEST,
    )  # fmt: skip
    assert row["partner_id"] is None
    assert "hand" not in row["detail"], "a note may name a member"


async def test_of_several_who_settle_at_once_one_does(two: Two) -> None:
    path = f"/v1/conflicts/{two.conflict}/settle"
    async with two.rig.client() as client:
        notes = [{"note": f"number {number}"} for number in range(4)]
        answers = await asyncio.gather(*(client.post(path, json=note, headers=two.rig.key()) for note in notes))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        (done,) = [answer.json() for answer in answers if answer.status_code == 200]
        assert (await client.get(f"/v1/conflicts/{two.conflict}")).json() == done


@pytest.mark.parametrize("permissions", [EVERYTHING, ROLES[Role.PARTNER]], ids=["program", "partner"])
async def test_a_partners_people_see_their_own_conflicts_and_nothing_of_the_member(
    two: Two, permissions: frozenset[Permission]
) -> None:
    async with two.rig.client() as owner:
        await post(two.rig, owner, f"/v1/conflicts/{two.conflict}/settle", {"note": "called Mrs Schmidt"})
    async with two.rig.client(*permissions, partner_id=1) as client:
        assert await ids(client) == [two.conflict]
        assert await ids(client, store_id=two.far_store) == []
        assert (await client.get(f"/v1/conflicts/{two.far_conflict}")).status_code == 404
        seen = (await client.get(f"/v1/conflicts/{two.conflict}")).json()
        assert (seen["reference"], seen["state"]) == ("R-1042", "settled")
        assert {seen[name] for name in ("card", "account_id", "note", "settled_by")} == {None}
        assert (await client.get("/v1/conflicts", params={"account_id": 1})).status_code == 403
        path = f"/v1/conflicts/{two.conflict}/settle"
        assert (await client.post(path, json={"note": "mine"}, headers=two.rig.key())).status_code == 403


async def test_who_may_not_see_accounts_is_told_no_account_and_no_card(two: Two) -> None:
    async with two.rig.client(*ROLES[Role.MARKETER]) as client:
        seen = (await client.get(f"/v1/conflicts/{two.conflict}")).json()
        assert {seen[name] for name in ("card", "account_id", "note", "settled_by")} == {None}
        assert (await client.get("/v1/conflicts", params={"account_id": 1})).status_code == 403
    async with two.rig.client(Permission.COALITION_READ, Permission.CARDS_READ) as client:
        seen = (await client.get(f"/v1/conflicts/{two.conflict}")).json()
        assert (seen["card"], seen["account_id"]) == ("****0015", None)


async def test_every_outcome_that_an_advice_can_have_has_a_name(two: Two) -> None:
    async with two.rig.client() as client:
        for outcome in [*(one for one in Outcome if one >= Outcome.REVERSED), *ErrorCode, 199]:
            made = await add_conflict(two.rig.postgres_url, two.relay, two.now_ms, outcome=int(outcome))
            told = (await client.get(f"/v1/conflicts/{made}")).json()["outcome"]
            assert told == (outcome.name.lower() if outcome != 199 else "199")
