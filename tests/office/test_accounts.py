import asyncio
import csv
import io
import os
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from admin_api.accounts import adjustments
from admin_api.accounts.adjustments import AdjustmentAsked, finish_approved
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from ledger.operations import Operation
from ledger.programme import EPOCH
from ledger.registry import adjustments as rows_of_adjustments
from ledger.registry.registry import Conflict
from tests.rigs.office_rig import EVERYTHING, OfficeRig
from tests.rigs.people import signed_in
from tests.rigs.till import Till

ANNA = Actor("user:1", "Anna", EVERYTHING)
BORIS = Actor("user:2", "Boris", EVERYTHING)
BIG = AdjustmentAsked(points=100_001, reason="a lost parcel")


async def posted(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    answer = await client.post(path, json=body, headers=OfficeRig.key())
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


def died(*_args: object, **_more: object) -> None:
    raise RuntimeError("the process died here")


async def balance(rig: OfficeRig, account: int) -> int:
    async with rig.client() as client:
        return int((await client.get(f"/v1/accounts/{account}")).json()["balance"]["available"])


async def test_an_account_tells_its_balance_lots_holds_and_cards(rig: OfficeRig) -> None:
    account, till = rig.cards[0].account, Till(rig)
    tomorrow = rig.office.desk.today() + 1
    await rig.office.desk.adjust(os.urandom(16), account, 1_000, tomorrow, "goodwill")
    await rig.office.desk.adjust(os.urandom(16), account, 500, 0, "goodwill")
    hold = await till.ask(Operation.HOLD, rig.cards[0], points=300, amount=10_000)
    async with rig.client() as client:
        view = (await client.get(f"/v1/accounts/{account}")).json()
        for path in ("", "/entries", "/entries.csv"):
            assert (await client.get(f"/v1/accounts/99{path}")).status_code == 404, path
    day = EPOCH.fromordinal(EPOCH.toordinal() + tomorrow).isoformat()
    assert view["balance"] == {
        "available": 1_200, "held": 300, "pending": 0, "owed": 0, "expiring": 700, "expiring_on": day,
    }  # fmt: skip
    assert [(lot["until_day"], lot["free"], lot["held"]) for lot in view["lots"]] == [(day, 700, 300), (None, 500, 0)]
    (shown,) = view["holds"]
    assert (shown["hold_id"], shown["points"], shown["terminal"], shown["store"]) == (
        hold.hex(), 300, "till-1", "Mill Street",
    )  # fmt: skip
    assert [card["status"] for card in view["cards"]] == ["active"]
    assert (view["status"], view["merged_into"]) == ("active", None)


async def test_the_history_tells_what_happened_where_and_what_became_of_it(rig: OfficeRig) -> None:
    card, till = rig.cards[0], Till(rig)
    earned = await till.ask(Operation.EARN, card, amount=20_000, reference="R-1")
    spent = await till.ask(Operation.REDEEM, card, points=400, amount=5_000, reference="R-2")
    await till.ask(Operation.REVERSE, card, target=spent)
    async with rig.client() as client:
        await posted(client, f"/v1/accounts/{card.account}/adjustments", {"points": 7, "reason": "goodwill"}, 201)
        path = f"/v1/accounts/{card.account}/entries"
        entries = (await client.get(path)).json()["items"]
        assert [entry["operation"] for entry in entries] == ["adjust", "reverse", "redeem", "earn"]
        adjust, reverse, redeem, earn = entries
        assert adjust["by"] == {
            "actor": "token:1", "name": "test", "action": "account.adjust", "reason": "goodwill",
        }  # fmt: skip
        assert (earn["partner"], earn["network"], earn["store"], earn["terminal"]) == (
            "Harvest Foods", "Harvest Market", "Mill Street", "till-1",
        )  # fmt: skip
        assert (earn["earned"], earn["amount"], earn["currency"], earn["reference"], earn["standing"]) == (
            1_000, 20_000, "EUR", "R-1", "stands",
        )  # fmt: skip
        assert (redeem["spent"], redeem["balance_after"], redeem["standing"]) == (400, 600, "reversed")
        assert reverse["refers_to"] == redeem["request_id"] == spent.hex()

        async def seqs(query: str) -> list[int]:
            answer = await client.get(f"{path}?{query}")
            assert answer.status_code == 200, answer.text
            return [entry["seq"] for entry in answer.json()["items"]]

        assert await seqs("operation=earn") == [1]
        assert await seqs("reference=R-2") == [2]
        assert await seqs("reference=R_2") == []
        assert await seqs(f"request_id={earned.hex()}") == [1]
        assert await seqs("store_id=1") == [3, 2, 1]
        assert await seqs("terminal_id=2") == []
        assert await seqs(f"from_ms={redeem['at_ms']}&to_ms={redeem['at_ms'] + 1}&operation=redeem") == [2]
        page = (await client.get(f"{path}?limit=3")).json()
        rest = (await client.get(f"{path}?limit=3&cursor={page['next']}")).json()
        assert [e["seq"] for e in page["items"]] == [4, 3, 2]
        assert ([e["seq"] for e in rest["items"]], rest["next"]) == ([1], None)
        rows = list(csv.DictReader(io.StringIO((await client.get(f"{path}.csv")).text)))
        assert [row["operation"] for row in rows] == ["adjust", "reverse", "redeem", "earn"]
        assert (rows[0]["reason"], rows[3]["store"]) == ("goodwill", "Mill Street")


async def test_a_text_that_a_spreadsheet_would_run_is_exported_as_text(rig: OfficeRig) -> None:
    await Till(rig).ask(Operation.EARN, rig.cards[0], amount=100, reference="=1+1")
    async with rig.client() as client:
        text = (await client.get(f"/v1/accounts/{rig.cards[0].account}/entries.csv")).text
    assert ",'=1+1," in text


async def test_what_became_of_a_receipt_is_told_with_its_family_and_the_answer_then(rig: OfficeRig) -> None:
    card, till = rig.cards[0], Till(rig)
    await till.ask(Operation.EARN, card, amount=20_000)
    spent = await till.ask(Operation.REDEEM, card, points=400, amount=5_000)
    refund = await till.ask(Operation.REFUND, card, target=spent, points=100, amount=1_000)
    async with rig.client() as client:
        told = (await client.get(f"/v1/requests/{spent.hex()}")).json()
        unknown = (await client.get(f"/v1/requests/{'0' * 32}")).json()
        assert (await client.get("/v1/requests/xyz")).status_code == 422
    assert (told["found"], told["standing"], told["account_id"]) == (True, "refunded", card.account)
    assert (told["answer"]["outcome"], told["answer"]["points"]) == ("approved", 400)
    assert [entry["request_id"] for entry in told["family"]] == [refund.hex()]
    assert (unknown["found"], "declined" in unknown["note"]) == (False, True)


async def test_a_small_adjustment_is_made_at_once_and_once(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    key, asked = rig.key(), {"points": 99_995, "expiry_day": "2099-12-31", "reason": "goodwill"}
    async with rig.client() as client:
        first = await client.post(f"/v1/accounts/{account}/adjustments", json=asked, headers=key)
        again = await client.post(f"/v1/accounts/{account}/adjustments", json=asked, headers=key)
        assert (first.status_code, first.json()["state"], again.json()) == (201, "done", first.json())
        view = (await client.get(f"/v1/accounts/{account}")).json()
        assert view["balance"]["expiring_on"] == "2099-12-31"
        by_rule = await posted(
            client, f"/v1/accounts/{account}/adjustments", {"points": 5, "network_id": 1, "reason": "x"}, 201
        )
        assert by_rule["expiry_day"] is None
        for wrong, status in (
            ({"points": 0, "reason": "x"}, 422),
            ({"points": 5}, 422),
            ({"points": 5, "reason": "x", "expiry_day": "2001-01-01"}, 422),
            ({"points": 5, "reason": "x", "network_id": 9}, 404),
        ):
            await posted(client, f"/v1/accounts/{account}/adjustments", wrong, status)
        await posted(client, "/v1/accounts/99/adjustments", {"points": 5, "reason": "x"}, 404)
    assert await balance(rig, account) == 100_000


async def test_a_large_adjustment_waits_for_another_person(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    async with rig.client() as anna, rig.client() as boris:
        asked = {"points": 100_001, "reason": "a lost parcel"}
        waiting = await posted(anna, f"/v1/accounts/{account}/adjustments", asked, 202)
        path = f"/v1/adjustments/{waiting['adjustment_id']}"
        assert [a["reason"] for a in (await boris.get("/v1/adjustments?state=waiting")).json()["items"]] == [
            "a lost parcel"
        ]
        assert await balance(rig, account) == 0
        await posted(anna, f"{path}/approve", status=403)
        await posted(anna, f"{path}/decline", status=403)
        assert (await posted(boris, f"{path}/approve"))["state"] == "done"
        assert (await posted(boris, f"{path}/approve"))["state"] == "done"
        await posted(boris, f"{path}/decline", status=409)
        assert await balance(rig, account) == 100_001
        await posted(boris, "/v1/adjustments/999/approve", status=404)


async def test_many_small_adjustments_by_one_person_on_one_account_are_a_large_one(rig: OfficeRig) -> None:
    account, other = rig.cards[0].account, rig.cards[1].account
    async with rig.client() as one, rig.client() as two:

        async def asked(client: httpx.AsyncClient, of: int, points: int) -> int:
            body = {"points": points, "reason": "small"}
            return (await client.post(f"/v1/accounts/{of}/adjustments", json=body, headers=rig.key())).status_code

        assert await asked(one, account, 60_000) == 201
        # Of several at once, no two find the same room.
        statuses = await asyncio.gather(*(asked(one, account, 30_000) for _ in range(4)))
        assert sorted(statuses) == [201, 202, 202, 202]
        assert await asked(one, account, -10_001) == 202, "what is taken counts as what is given"
        assert await asked(one, account, -10_000) == 201
        assert await asked(one, account, 1) == 202
        assert await asked(one, other, 100_000) == 201
        assert await asked(two, account, 100_000) == 201


async def test_a_declined_adjustment_changes_nothing_and_stays_declined(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    async with rig.client() as anna, rig.client() as boris:
        asked = {"points": -100_001, "reason": "a mistake"}
        waiting = await posted(anna, f"/v1/accounts/{account}/adjustments", asked, 202)
        path = f"/v1/adjustments/{waiting['adjustment_id']}"
        assert (await posted(boris, f"{path}/decline"))["state"] == "declined"
        await posted(boris, f"{path}/approve", status=409)
    assert await finish_approved(rig.office, grace_ms=-1) == 0
    assert await balance(rig, account) == 0


async def test_an_adjustment_that_was_approved_is_made_though_the_process_died(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = rig.cards[0].account
    for count, repeat in enumerate((finish_approved, None), start=1):
        waiting = await adjustments.adjust(rig.office, ANNA, account, BIG, bytes([count]) * 16)
        with monkeypatch.context() as patch:
            patch.setattr(adjustments, "do", died)
            with pytest.raises(RuntimeError):
                await adjustments.approve(rig.office, BORIS, waiting.adjustment_id)
        if repeat is not None:
            assert await repeat(rig.office, grace_ms=-1) == 1
            assert await repeat(rig.office, grace_ms=-1) == 0
        else:
            await adjustments.approve(rig.office, BORIS, waiting.adjustment_id)
        assert await balance(rig, account) == count * BIG.points


async def test_an_adjustment_whose_end_was_not_noted_is_not_made_twice(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = rig.cards[0].account
    small = AdjustmentAsked(points=10, reason="goodwill")
    with monkeypatch.context() as patch:
        patch.setattr(adjustments, "_settle", died)
        with pytest.raises(RuntimeError):
            await adjustments.adjust(rig.office, ANNA, account, small, b"a" * 16)
    assert (await adjustments.adjust(rig.office, ANNA, account, small, b"a" * 16)).state == "done"
    assert await finish_approved(rig.office, grace_ms=-1) == 0
    assert await balance(rig, account) == 10


async def test_a_stuck_hold_is_released_and_a_blocked_account_works_again_when_unblocked(rig: OfficeRig) -> None:
    card, till = rig.cards[0], Till(rig)
    await rig.office.desk.adjust(os.urandom(16), card.account, 1_000, 0, "goodwill")
    hold = await till.ask(Operation.HOLD, card, points=300, amount=10_000)
    path = f"/v1/accounts/{card.account}"
    async with rig.client() as client:
        because = {"reason": "the till is broken"}
        await posted(client, f"{path}/holds/{hold.hex()}/release", because)
        gone = await posted(client, f"{path}/holds/{hold.hex()}/release", because, 409)
        assert gone["outcome"] == "HOLD_CLOSED"
        assert (await client.get(path)).json()["balance"]["available"] == 1_000
        await posted(client, f"{path}/block", because)
        assert (await client.get(path)).json()["status"] == "blocked"
        assert await till.outcome(Operation.BALANCE, card) == 107
        await posted(client, f"{path}/unblock", because)
        assert await till.outcome(Operation.BALANCE, card) == 0
        entries = (await client.get(f"{path}/entries")).json()["items"]
        assert [entry["by"]["reason"] for entry in entries[:3]] == ["the till is broken"] * 3
        await posted(client, f"{path}/block", {}, 422)


async def test_partners_people_and_members_see_no_account(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    because = {"reason": "x"}
    async with rig.client(*Permission, partner_id=1) as client:
        for method, path, body in (
            ("GET", f"/v1/accounts/{account}", None),
            ("GET", f"/v1/accounts/{account}/cards", None),
            ("GET", f"/v1/accounts/{account}/entries", None),
            ("GET", f"/v1/accounts/{account}/entries.csv", None),
            ("GET", f"/v1/requests/{'0' * 32}", None),
            ("GET", "/v1/adjustments", None),
            ("POST", f"/v1/accounts/{account}/adjustments", {"points": 1, "reason": "x"}),
            ("POST", "/v1/adjustments/1/approve", None),
            ("POST", "/v1/adjustments/1/decline", None),
            ("POST", f"/v1/accounts/{account}/block", because),
            ("POST", f"/v1/accounts/{account}/unblock", because),
            ("POST", f"/v1/accounts/{account}/holds/{'0' * 32}/release", because),
            ("POST", f"/v1/accounts/{account}/merge", {"source": 2, "reason": "x"}),
        ):
            answer = await client.request(method, path, json=body, headers=rig.key())
            assert answer.status_code == 403, (method, path)


async def test_nobody_is_two_persons_by_making_tokens(rig: OfficeRig) -> None:
    """Whoever asks, in person, by a token or by a token's token, cannot approve in any of these ways."""
    account = rig.cards[0].account
    allowed = ["tokens:write", "accounts:write", "accounts:read", "adjustments:approve"]
    async with AsyncExitStack() as stack:
        _, anna = await stack.enter_async_context(signed_in(rig))
        boris = await stack.enter_async_context(rig.client())
        hers = [anna]
        for name in ("token", "token's token", "its token"):
            asked = {"name": name, "permissions": allowed, "days": 1}
            made = await posted(hers[-1], "/v1/tokens", asked, 201)
            client = await stack.enter_async_context(rig.anonymous())
            client.headers["authorization"] = f"Bearer {made['token']}"
            hers.append(client)
        for count, asker in enumerate(hers, start=1):
            asked = {"points": 100_001, "reason": "a lost parcel"}
            waiting = await posted(asker, f"/v1/accounts/{account}/adjustments", asked, 202)
            for approver in hers:
                refused = await posted(approver, f"/v1/adjustments/{waiting['adjustment_id']}/approve", status=403)
                assert "second person" in refused["detail"]
            assert await balance(rig, account) == 100_001 * (count - 1)
            done = await posted(boris, f"/v1/adjustments/{waiting['adjustment_id']}/approve")
            assert done["state"] == "done"


async def test_postgresql_itself_refuses_an_approval_by_who_asked(rig: OfficeRig) -> None:
    waiting = await adjustments.adjust(rig.office, ANNA, rig.cards[0].account, BIG, b"p" * 16)
    with pytest.raises(Conflict):
        async with rig.registry.writing() as transaction:
            await rows_of_adjustments.decide(
                transaction, waiting.adjustment_id, "approved", actor="token:9", person=ANNA.person, now_ms=1
            )
