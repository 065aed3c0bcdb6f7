import re
from typing import Any

import httpx
import pytest

from admin_api.security.permissions import Role
from ledger.operations import Operation
from ledger.operator_desk import Undecided
from ledger.submission import Refusal
from tests.rigs.lived_account import PHONE_AS_SAID, Lived
from tests.rigs.office_rig import OfficeRig
from tests.rigs.people import signed_in
from tests.rigs.till import Till


async def posted(client: httpx.AsyncClient, path: str, page: str | None = None, **fields: Any) -> httpx.Response:
    """Send the form of a page with what it hides."""
    shown = await client.get(path if page is None else page)
    key = re.search(r'name="key" value="([0-9a-f]{32})"', shown.text)
    return await client.post(
        path, data={"csrf": client.headers["x-csrf-token"], "key": key[1] if key else "", **fields}
    )


async def entries(rig: OfficeRig, account: int) -> list[int]:
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT op FROM entry WHERE account_id = $1 ORDER BY seq", account)
    return [row["op"] for row in rows]


async def test_every_page_tells_its_story_in_both_languages(rig: OfficeRig) -> None:
    lived = await Lived(rig).live()
    ref = rig.cards[0].card.token.hex()
    own = f"/accounts/{lived.account}"
    async with signed_in(rig) as (_, client):
        await posted(client, f"{own}/adjust", direction="give", points="20000", lasting="never", reason="Anniversary")
        await posted(client, "/cards/batches/new", name="Autumn", kind="pan", count="3", prefix="9643")
        for language in ("en", "ru"):
            client.cookies.set("tillwire-language", language)
            for path in (
                "/search", own, f"{own}?operation=sale&store=1&first=2020-01-01&last=2099-01-01&reference=R-1",
                f"{own}?reference=nothing", f"{own}/adjust", f"{own}/merge", f"{own}/merge/{rig.cards[1].account}",
                f"{own}/merge/{lived.account}", f"{own}/status/block", f"{own}/status/unblock", f"{own}/cards/new",
                f"{own}/cards/{ref}/block", f"{own}/cards/{ref}/unblock", f"{own}/cards/{ref}/activate",
                f"{own}/cards/{ref}/replace", f"{own}/holds/{lived.ids['hold'].hex()}/release", "/adjustments",
                "/adjustments?show=all", "/adjustments/1", "/members/new", f"/members/new?account={lived.account}",
                f"/members/{rig.cards[1].account}", f"/members/{lived.account}", f"/members/{lived.account}?changes=y",
                f"/members/{lived.account}/change", f"/members/{lived.account}/erase", "/cards", "/cards/new",
                "/cards/batches/new", "/cards/batches/1",
                *(f"/requests/{request_id.hex()}" for request_id in lived.ids.values()),
            ):  # fmt: skip
                answer = await client.get(path)
                assert answer.status_code == 200, (path, answer.text)
                assert not re.search(r"\sstyle=|\son\w+=|\{\w+\}", answer.text), path
        for path in (f"/requests/{'0' * 32}", "/requests/nonsense", "/accounts/999999", "/adjustments/7"):
            assert (await client.get(path)).status_code == 404, path


async def test_what_was_typed_into_the_search_stands_in_no_address(rig: OfficeRig) -> None:
    lived = await Lived(rig).live()
    number = lived.number
    async with signed_in(rig) as (_, client):

        async def search(text: str) -> httpx.Response:
            return await client.post("/search", data={"csrf": client.headers["x-csrf-token"], "q": text})

        for text in (
            number, f"{number[0]} {number[1:7]} {number[7:]}", PHONE_AS_SAID, "quillfeather", "Quillfeather Annabella",
            "annabella@quillfeather.example", f"#{lived.account}", str(lived.account), f"Account {lived.account}",
        ):  # fmt: skip
            answer = await search(text)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/accounts/{lived.account}"), text
        request_id = lived.ids["sale"].hex()
        for text in (request_id, request_id.upper(), f"{request_id[:8]}-{request_id[8:]}"):
            assert (await search(text)).headers["location"] == f"/requests/{request_id}"
        wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
        assert "the last one does not fit" in (await search(wrong)).text
        assert "country code" in (await search("0151 23456780")).text
        nothing = await search("<b>Nobody</b>")
        assert (nothing.status_code, "<b>Nobody" in nothing.text) == (200, False)
        del client.headers["x-csrf-token"]
        assert (await client.post("/search", data={"q": number})).status_code == 403


async def test_several_accounts_are_a_choice(rig: OfficeRig) -> None:
    lived = Lived(rig)
    first = await lived.register(account_id=lived.account)
    second = await lived.register(cards=[{"kind": "ean13", "number": rig.numbers[1]}])
    async with signed_in(rig) as (_, client):
        answer = await client.post("/search", data={"csrf": client.headers["x-csrf-token"], "q": "Quillfeather"})
        assert "2 accounts were found" in answer.text
        assert f'href="/accounts/{first}"' in answer.text
        assert f'href="/accounts/{second}"' in answer.text


async def test_a_form_that_is_sent_twice_does_once_what_it_asks_for(rig: OfficeRig) -> None:
    lived = Lived(rig)
    own, ref = f"/accounts/{lived.account}", rig.cards[0].card.token.hex()
    async with signed_in(rig) as (_, client):
        shown = await client.get(f"{own}/adjust")
        key = re.search(r'name="key" value="([0-9a-f]{32})"', shown.text)
        assert key is not None
        fields = {"csrf": client.headers["x-csrf-token"], "key": key[1], "points": "12,50", "reason": "Sorry"}
        for _ in range(3):
            assert (await client.post(f"{own}/adjust", data=fields)).headers["location"] == own
        assert await entries(rig, lived.account) == [Operation.ADJUST]
        reused = await client.post(f"{own}/adjust", data={**fields, "points": "13"})
        assert (reused.status_code, "was sent before" in reused.text) == (422, True)

        page = f"{own}/cards/{ref}/replace"
        shown = await client.get(page)
        key = re.search(r'name="key" value="([0-9a-f]{32})"', shown.text)
        assert key is not None
        fields = {"csrf": client.headers["x-csrf-token"], "key": key[1], "kind": "ean13", "way": "draw", "prefix": "20"}
        told = [(await client.post(page, data=fields)).text for _ in range(2)]
        numbers = [re.search(r"<code>(20\d{11})</code>", text) for text in told]
        assert numbers[0] is not None
        assert numbers[1] is not None
        assert numbers[0][1] == numbers[1][1]
        assert await entries(rig, lived.account) == [Operation.ADJUST, Operation.REPLACE]


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("adjust", {"points": "twelve", "reason": "x"}, "Say how many points"),
        ("adjust", {"points": "0", "reason": "x"}, "Say how many points"),
        ("adjust", {"points": "1.005", "reason": "x"}, "Say how many points"),
        ("adjust", {"points": "1e9999999", "reason": "x"}, "Say how many points"),
        ("adjust", {"points": "NaN", "reason": "x"}, "Say how many points"),
        ("adjust", {"points": "5", "reason": "  "}, "Say why"),
        ("adjust", {"points": "5", "reason": "x", "lasting": "day", "day": "2020-01-01"}, "from today on"),
        ("adjust", {"points": "5", "reason": "x", "lasting": "day", "day": "soon"}, "from today on"),
        ("status/block", {"reason": ""}, "Say why"),
        ("cards/new", {"kind": "ean13", "number": "2000000000012"}, "last digit does not fit"),
        ("cards/new", {"kind": "shoe", "number": "1"}, "no number of this kind"),
        ("cards/new", {"kind": "ean13", "number": ""}, "Say which number"),
        ("cards/new", {"kind": "phone", "way": "draw", "prefix": "4"}, "cannot be drawn"),
        ("cards/{card}/activate", {}, "the card is active already"),
        ("cards/{card}/unblock", {}, "the card is active already"),
        ("cards/{card}/replace", {"kind": "ean13", "number": "{other}"}, "leads to an account already"),
        ("holds/00000000000000000000000000000000/release", {"reason": "x"}, "no such points"),
    ],
)
async def test_what_cannot_be_done_is_said_where_it_was_asked(
    rig: OfficeRig, path: str, fields: dict[str, str], told: str
) -> None:
    card = rig.cards[0]
    # The other number leads to an account with a history, so it cannot come along.
    await Till(rig).ask(Operation.EARN, rig.cards[1], amount=2_000)
    async with signed_in(rig) as (_, client):
        where = f"/accounts/{card.account}/" + path.format(card=card.card.token.hex())
        filled = {name: value.format(other=rig.numbers[1]) for name, value in fields.items()}
        page = f"/accounts/{card.account}/adjust" if path.startswith("holds/") else None
        answer = await posted(client, where, page, **filled)
        assert answer.status_code in (409, 422), answer.text
        assert told in answer.text
        assert 'role="alert"' in answer.text


async def test_a_large_adjustment_needs_somebody_else(rig: OfficeRig) -> None:
    lived = Lived(rig)
    async with signed_in(rig, Role.OPERATOR, email="first@example.com") as (_, first):
        answer = await posted(
            first, f"/accounts/{lived.account}/adjust", points="5000", lasting="never", reason="Lost in the move"
        )
        assert answer.headers["location"] == "/adjustments/1"
        assert "It needs a second person" in (await first.get("/adjustments/1")).text
        assert 'name="key"' not in (await first.get("/adjustments/1")).text
        forced = await first.post(
            "/adjustments/1/approve", data={"csrf": first.headers["x-csrf-token"], "key": "0" * 32}
        )
        assert (forced.status_code, "needs a second person" in forced.text) == (403, True)
        assert await entries(rig, lived.account) == []
        assert "5,000.00 points waits" in (await first.get(f"/accounts/{lived.account}")).text
    async with signed_in(rig, Role.OPERATOR, email="second@example.com") as (_, second):
        assert "Lost in the move" in (await second.get("/adjustments")).text
        approved = await posted(second, "/adjustments/1/approve", "/adjustments/1")
        assert approved.headers["location"] == "/adjustments/1"
        assert await entries(rig, lived.account) == [Operation.ADJUST]
        assert "5,000.00 points can be spent now" in (await second.get("/adjustments/1")).text


async def test_an_auditor_sees_the_account_and_no_button(rig: OfficeRig) -> None:
    lived = await Lived(rig).live()
    async with signed_in(rig, Role.AUDITOR) as (_, client):
        text = (await client.get(f"/accounts/{lived.account}")).text
        assert "Bought for" in text
        assert not re.search(r'href="/accounts/\d+/(.*/)?(adjust|merge|status|release|block|replace|cards/new)', text)
        assert "Annabella" in (await client.get(f"/members/{lived.account}")).text


async def test_what_would_be_declined_today_is_told_by_card_and_network(rig: OfficeRig) -> None:
    lived = Lived(rig)
    own = f"/accounts/{lived.account}"
    async with signed_in(rig) as (_, client), rig.client() as program:
        text = (await client.get(own)).text
        assert "The card works." in text
        assert "Declined: not enough points." in text
        await lived.adjust(program, 1_000, "Opening")
        assert "Up to 10.00 points can be spent at once." in (await client.get(own)).text
        # What would be said is only asked, never done.
        assert await entries(rig, lived.account) == [Operation.ADJUST]
        await posted(client, f"{own}/status/block", reason="Found in the street")
        blocked = (await client.get(own)).text
        assert "Declined: account is blocked." in blocked
        assert "none of its cards works" in blocked
        assert "Harvest Market" not in blocked.partition('id="history"')[0]


async def test_the_export_has_what_the_filters_show(rig: OfficeRig) -> None:
    lived = await Lived(rig).live()
    async with signed_in(rig) as (_, client):
        whole = (await client.get(f"/accounts/{lived.account}/history.csv")).text.splitlines()
        some = await client.get(f"/accounts/{lived.account}/history.csv?operation=sale")
        assert "attachment" in some.headers["content-disposition"]
        assert len(some.text.splitlines()) == 2
        assert len(whole) == 1 + len(await entries(rig, lived.account))


async def test_every_look_at_personal_data_is_noted(rig: OfficeRig) -> None:
    lived = await Lived(rig).live()

    async def looks() -> int:
        async with rig.registry.reading() as transaction:
            return int(await transaction.fetchval("SELECT count(*) FROM office.audit WHERE action LIKE 'member.look%'"))

    async with signed_in(rig) as (_, client):
        await client.get(f"/accounts/{lived.account}")
        assert await looks() == 0
        await client.get(f"/members/{lived.account}")
        assert await looks() == 1
        await client.get(f"/members/{lived.account}?changes=yes")
        assert await looks() == 3
        await client.get(f"/members/{lived.account}/change")
        assert await looks() == 4


async def test_a_change_that_somebody_else_overtook_shows_both(rig: OfficeRig) -> None:
    lived = await Lived(rig).live()
    page = f"/members/{lived.account}/change"
    async with signed_in(rig) as (_, client), rig.client() as other:
        shown = await client.get(page)
        key = re.search(r'name="key" value="([0-9a-f]{32})"', shown.text)
        assert key is not None
        await other.patch(f"/v1/members/{lived.account}", json={"version": 1, "family_name": "Overtaker"})
        fields = {
            "csrf": client.headers["x-csrf-token"], "key": key[1], "version": "1", "given_name": "Bella",
            "family_name": "Mine", "phone": "+4915123456789",
        }  # fmt: skip
        lost = await client.post(page, data=fields)
        assert lost.status_code == 409
        assert "Kept now: Overtaker" in lost.text
        assert 'value="Mine"' in lost.text
        key = re.search(r'name="key" value="([0-9a-f]{32})"', lost.text)
        assert key is not None
        saved = await client.post(page, data={**fields, "key": key[1], "version": "2"})
        assert saved.headers["location"] == f"/members/{lived.account}"
        assert "Mine" in (await client.get(f"/members/{lived.account}")).text
        wrong = await posted(client, page, version="3", phone="12", birthday="2999-01-01")
        assert "needs + and the country code" in wrong.text
        assert "lies in the future" in wrong.text


async def test_a_drawn_number_stands_on_one_page_and_in_no_cookie(rig: OfficeRig) -> None:
    async with signed_in(rig) as (_, client):
        answer = await posted(client, "/cards/new", kind="pan", way="draw", prefix="9643", active="yes")
        number = re.search(r"<code>(9643\d{12})</code>", answer.text)
        assert number is not None
        assert "set-cookie" not in answer.headers
        found = await client.post("/search", data={"csrf": client.headers["x-csrf-token"], "q": number[1]})
        assert found.headers["location"].startswith("/accounts/")


async def test_a_form_whose_answer_was_lost_is_sent_again_and_done_once(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = Lived(rig)
    adjust = rig.office.desk.adjust

    async def lost(*asked: Any) -> Any:
        await adjust(*asked)
        raise Undecided(Refusal.UNAVAILABLE, 0)

    own = f"/accounts/{lived.account}/adjust"
    async with signed_in(rig) as (_, client):
        monkeypatch.setattr(rig.office.desk, "adjust", lost)
        shown = await posted(client, own, points="5", reason="Sorry")
        assert shown.status_code == 503
        assert "nobody knows yet" in shown.text
        monkeypatch.undo()
        key = re.search(r'name="key" value="([0-9a-f]{32})"', shown.text)
        assert key is not None
        fields = {"csrf": client.headers["x-csrf-token"], "key": key[1], "points": "5", "reason": "Sorry"}
        again = await client.post(own, data=fields)
        assert again.headers["location"] == f"/accounts/{lived.account}"
        assert await entries(rig, lived.account) == [Operation.ADJUST]


async def test_a_phone_number_is_linked_and_taken_away_again_once(rig: OfficeRig) -> None:
    lived = Lived(rig)
    own = f"/accounts/{lived.account}"
    async with signed_in(rig) as (_, client):
        linked = await posted(client, f"{own}/cards/new", kind="phone", number="+49 151 5555 4444")
        assert linked.headers["location"] == own
        found = re.search(r"/cards/([0-9a-f]{32})/unlink", (await client.get(own)).text)
        assert found is not None
        page = f"{own}/cards/{found[1]}/unlink"
        shown = await client.get(page)
        key = re.search(r'name="key" value="([0-9a-f]{32})"', shown.text)
        assert key is not None
        fields = {"csrf": client.headers["x-csrf-token"], "key": key[1]}
        for _ in range(2):
            assert (await client.post(page, data=fields)).headers["location"] == own
        assert await entries(rig, lived.account) == [Operation.LINK, Operation.UNLINK]
        assert "was taken from the account" in (await client.get(own)).text
        assert (await client.get(page)).status_code == 404
