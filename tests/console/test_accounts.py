"""The person who gets the call "my points are gone", from the search to the end."""

import re

import pytest
from playwright.async_api import Page, expect

from admin_api.security.permissions import Role
from tests.console.conftest import Site
from tests.rigs.lived_account import PHONE_AS_SAID, Lived


@pytest.fixture
async def lived(site: Site) -> Lived:
    lived = await Lived(site.rig).live()
    async with site.rig.client() as client:
        await lived.adjust(client, 1_000, "The register was offline on Saturday")
    return lived


async def find(page: Page, text: str) -> None:
    await page.keyboard.press("/")
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


async def test_a_member_calls_and_is_helped(site: Site, lived: Lived) -> None:
    async with site.page(Role.OPERATOR) as page:
        await page.goto(f"{site.url}/cards")
        await find(page, PHONE_AS_SAID)
        await expect(page.locator("h1")).to_have_text(f"Account {lived.account}")
        assert page.url == f"{site.url}/accounts/{lived.account}"
        await expect(page.locator(".standing .balance")).to_contain_text("points can be spent now.")
        await expect(page.locator(".standing")).to_contain_text("3.00 more are set aside")
        sale = page.locator(".history tr", has_text="R-1002")
        await expect(sale).to_contain_text("Bought for €25.00, spent 5.00 points, earned 1.00 points.")
        await expect(sale).to_contain_text("Harvest Market, Mill Street, till-1")
        await expect(page.locator(".history tr", has_text="R-1004")).to_contain_text("This belongs to: Sale")
        await expect(page.locator(".history tr", has_text="given by hand")).to_contain_text("offline on Saturday")
        await site.shot(page, "account")

        await page.get_by_role("link", name="Block", exact=True).click()
        await expect(page.locator("h1")).to_have_text("Block this card?")
        await site.shot(page, "account-block")
        await page.select_option("#reason", label="stolen")
        await page.get_by_role("button", name="Block the card").click()
        await expect(page.get_by_role("status")).to_contain_text("is blocked")
        await expect(page.locator(".facts")).to_contain_text("Declined: card is blocked")
        await expect(page.locator(".history tbody tr").first).to_contain_text("By The operator: stolen.")
        await site.shot(page, "account-blocked")

        await page.get_by_role("link", name="Replace", exact=True).click()
        await site.shot(page, "account-replace")
        await page.locator("input[value=draw]").check()
        await page.fill("input[name=prefix]", "2000")
        await page.select_option("#reason", label="damaged")
        await page.get_by_role("button", name="Replace the card").click()
        await expect(page.locator("h1")).to_have_text("The new card")
        await site.shot(page, "account-replaced")
        number = (await page.locator(".number").inner_text()).strip()
        assert re.fullmatch(r"2000\d{9}", number)
        await page.reload()
        await expect(page.locator(".number")).to_have_text(number)
        await page.get_by_role("link", name="To the account").click()
        await expect(page.locator(".card-list").first).to_contain_text("replaced")
        await expect(page.locator(".history tbody tr").first).to_contain_text("By The operator: damaged.")
        await expect(page.locator(".standing .balance")).to_contain_text("points can be spent now.")

        await page.get_by_role("link", name="Adjust points").click()
        await page.fill("#points", "7.50")
        await page.fill("#reason", "Points of Saturday")
        await site.shot(page, "account-adjust")
        await page.get_by_role("button", name="Adjust").click()
        await expect(page.get_by_role("status")).to_have_text("7.50 points were given.")
        await expect(page.locator(".history tbody tr").first).to_contain_text("By The operator: Points of Saturday.")
        await page.reload()
        assert await page.locator(".history tr", has_text="Points of Saturday").count() == 1

        await page.get_by_role("link", name="Release").click()
        await page.fill("#reason", "The till was switched off")
        await site.shot(page, "account-release")
        await page.get_by_role("button", name="Release the points").click()
        await expect(page.get_by_role("heading", name="Points set aside")).to_have_count(0)

        await page.locator(".history tr", has_text="R-1002").get_by_role("link").first.click()
        await expect(page.locator(".status")).to_contain_text("returned later")
        await expect(page.locator(".history")).to_contain_text("Goods for €10.00 were returned")
        await site.shot(page, "request")


async def test_the_history_is_filtered_and_paged(site: Site, lived: Lived) -> None:
    async with site.rig.client() as client:
        for number in range(30):
            await lived.adjust(client, 100 + number, f"Number {number}")
    async with site.page(Role.OPERATOR) as page:
        await page.goto(f"{site.url}/accounts/{lived.account}")
        await expect(page.locator(".history tbody tr")).to_have_count(25)
        await page.get_by_role("link", name="Older").click()
        await expect(page.locator(".history")).to_contain_text("R-1001")
        await page.get_by_role("link", name="To the newest").click()
        await page.fill("input[name=reference]", "R-1002")
        await page.get_by_role("button", name="Show", exact=True).click()
        await expect(page.locator(".history tbody tr")).to_have_count(1)
        await site.shot(page, "account-filtered")
        await page.fill("input[name=reference]", "none such")
        await page.get_by_role("button", name="Show", exact=True).click()
        await expect(page.locator(".empty-title")).to_have_text("Nothing in the history fits")
        await page.locator(".empty").get_by_role("link").click()
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("What became of a request")


@pytest.mark.parametrize(
    ("name", "phone", "dark", "language"),
    [("dark", False, True, "en"), ("phone", True, False, "en"), ("phone-dark-ru", True, True, "ru"),
     ("ru", False, False, "ru")],
)  # fmt: skip
async def test_the_pages_look_good(
    site: Site, lived: Lived, name: str, phone: bool, dark: bool, language: str
) -> None:  # fmt: skip
    ref = lived.card.card.token.hex()
    own = f"/accounts/{lived.account}"
    other = site.rig.cards[1].account
    async with site.rig.client() as client:
        await lived.adjust(client, 500_000, "Moved in from the former system")
        await client.post(
            "/v1/card-batches", headers=site.rig.key(),
            json={"name": "Autumn 2026, shops in the north", "kind": "ean13", "count": 2_500, "prefix": "2100"},
        )  # fmt: skip
    async with site.page(Role.OWNER, phone=phone, dark=dark, language=language) as page:
        for path, shot in (
            (own, "account"), (f"{own}/cards/{ref}/block", "account-block"),
            (f"{own}/cards/{ref}/replace", "account-replace"), (f"{own}/adjust", "account-adjust"),
            (f"{own}/merge/{other}", "merge"), (f"{own}/merge", "merge-which"),
            (f"/requests/{lived.ids['sale'].hex()}", "request"), ("/adjustments", "adjustments"),
            ("/adjustments/2", "adjustment"), (f"/members/{lived.account}?changes=yes", "member"),
            (f"/members/{lived.account}/change", "member-change"), (f"/members/{lived.account}/erase", "member-erase"),
            ("/members/new", "member-new"), (f"/members/{other}", "member-none"), ("/search", "search"),
            ("/cards", "cards"), ("/cards/batches/1", "batch"), ("/cards/batches/new", "batch-new"),
            ("/cards/new", "card-new"), (f"/accounts/{other}", "account-empty"),
        ):  # fmt: skip
            await site.see(page, path, f"{shot}-{name}")
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= (360 if phone else 1280), f"{path} sticks out to the side"


async def test_an_auditor_sees_and_may_not_act(site: Site, lived: Lived) -> None:
    async with site.page(Role.AUDITOR) as page:
        await find_from(page, site, lived.number)
        await expect(page.locator("h1")).to_have_text(f"Account {lived.account}")
        await expect(page.locator(".history")).to_contain_text("R-1002")
        await expect(page.locator("main .button")).to_have_text(["Member", "The request", "Export as CSV"])
        await site.shot(page, "account-auditor")
        site.expected.append("403")
        await page.goto(f"{site.url}/accounts/{lived.account}/adjust")
        await expect(page.locator("h1")).to_have_text("This is not for you to do")


async def find_from(page: Page, site: Site, text: str) -> None:
    await page.goto(f"{site.url}/search")
    await find(page, text)


async def test_a_partner_sees_none_of_it(site: Site, lived: Lived) -> None:
    site.expected.append("403")
    async with site.page(Role.PARTNER, partner_id=1) as page:
        for path in (f"/accounts/{lived.account}", f"/members/{lived.account}", "/cards", "/adjustments", "/search",
                     f"/requests/{lived.ids['sale'].hex()}"):  # fmt: skip
            await page.goto(site.url + path)
            await expect(page.locator("h1")).to_have_text("This is not for you to do")
        await expect(page.locator("#find")).to_have_count(0)
        await expect(page.get_by_role("link", name="Cards")).to_have_count(0)


async def test_two_people_decide_on_a_large_adjustment(site: Site, lived: Lived) -> None:
    async with site.page(Role.OPERATOR) as first:
        await first.goto(f"{site.url}/accounts/{lived.account}/adjust")
        await first.fill("#points", "2000")
        await first.select_option("#lasting", value="never")
        await first.fill("#reason", "The balance of the old system")
        await first.get_by_role("button", name="Adjust").click()
        await expect(first.get_by_role("status")).to_contain_text("Nothing has changed yet")
        await expect(first.get_by_role("button", name="Approve")).to_have_count(0)
        await site.shot(first, "adjustment-own")
        async with site.page(Role.OWNER) as second:
            await second.goto(f"{site.url}/adjustments")
            await site.shot(second, "adjustments-waiting")
            await second.get_by_role("link", name="Give 2,000.00 points").click()
            await site.shot(second, "adjustment-decide")
            await second.get_by_role("button", name="Approve").click()
            await expect(second.get_by_role("status")).to_have_text("Approved and done.")
            await second.get_by_role("link", name="The entry in the journal").click()
            await expect(second.locator(".balance")).to_contain_text("2,000.00 points were given by hand")


async def test_nothing_found_says_what_was_tried_and_what_to_try(site: Site, lived: Lived) -> None:
    async with site.page(Role.OPERATOR) as page:
        wrong = lived.number[:-1] + str((int(lived.number[-1]) + 1) % 10)
        await find_from(page, site, wrong)
        await expect(page.locator("h1")).to_have_text("Nothing was found")
        await expect(page.locator(".flash")).to_contain_text("one digit is probably wrong")
        await site.shot(page, "search-nothing")
        assert page.url == f"{site.url}/search"
        await find_from(page, site, "f" * 32)
        await expect(page.locator("h1")).to_have_text("Nothing became of this request")
        await site.shot(page, "request-none")
        site.expected.append("404")


async def test_several_accounts_are_a_choice(site: Site, lived: Lived) -> None:
    second = await lived.register(cards=[{"kind": "ean13", "number": site.rig.numbers[1]}])
    async with site.page(Role.OPERATOR, phone=True) as page:
        await page.goto(f"{site.url}/search")
        await page.fill("#again", "quillfeather")
        await page.press("#again", "Enter")
        await expect(page.locator("h1")).to_have_text("2 accounts were found")
        await site.shot(page, "search-choice-phone")
        await page.get_by_role("link", name=f"Account {second}").click()
        await expect(page.locator("h1")).to_have_text(f"Account {second}")


async def test_it_works_without_scripts(site: Site, lived: Lived) -> None:
    async with site.page(Role.OPERATOR, scripts=False) as page:
        await page.goto(f"{site.url}/cards")
        await page.fill("#find", "Quillfeather")
        await page.press("#find", "Enter")
        await page.get_by_role("link", name="Block", exact=True).click()
        await page.get_by_role("button", name="Block the card").click()
        await expect(page.get_by_role("status")).to_contain_text("is blocked")
        await page.get_by_role("link", name="Unblock", exact=True).click()
        await page.get_by_role("button", name="Unblock the card").click()
        await expect(page.get_by_role("status")).to_contain_text("works again")


async def test_two_accounts_of_one_person_become_one(site: Site, lived: Lived) -> None:
    async with site.rig.client() as client:
        answer = await client.post(
            f"/v1/accounts/{site.rig.cards[1].account}/adjustments", headers=site.rig.key(),
            json={"points": 4_200, "reason": "Opening"},
        )  # fmt: skip
        assert answer.status_code == 201
    async with site.page(Role.OPERATOR) as page:
        await page.goto(f"{site.url}/accounts/{lived.account}")
        await page.get_by_role("link", name="Merge").click()
        await page.fill("#other", site.rig.numbers[1])
        await page.locator("main").get_by_role("button", name="Search").click()
        await expect(page.locator("h1")).to_contain_text(f"become part of account {lived.account}?")
        await site.shot(page, "merge")
        await page.fill("#reason", "The same person, two cards")
        await page.get_by_role("button", name="Merge the accounts").click()
        await expect(page.get_by_role("status")).to_contain_text("is part of this one now")
        await expect(page.locator(".card-list").first).to_contain_text(site.rig.numbers[1][-4:])
        await page.goto(f"{site.url}/accounts/{site.rig.cards[1].account}")
        await site.shot(page, "account-closed")
        await page.locator(".status").get_by_role("link").click()
        await expect(page.locator("h1")).to_have_text(f"Account {lived.account}")
        await expect(page.locator(".history tbody tr").first).to_contain_text(
            "Took over another account, 42.00 points."
        )


async def test_a_member_is_shown_changed_and_erased(site: Site, lived: Lived) -> None:
    async with site.page(Role.OWNER) as page:
        await page.goto(f"{site.url}/accounts/{lived.account}")
        await page.get_by_role("link", name="Member").click()
        await expect(page.locator(".flash")).to_contain_text("has been written down")
        await page.get_by_role("button", name="Let the phone number work as a card").click()
        await expect(page.get_by_role("status")).to_have_text("The phone number works as a card now.")
        await page.get_by_role("link", name="Change", exact=True).click()
        await page.fill("#family_name", "Featherquill")
        await page.fill("#phone", "+49 151 9999 0000")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status")).to_contain_text("The new phone number works as a card")
        await page.get_by_role("link", name="Show the changes").click()
        await expect(page.locator(".stacked")).to_contain_text("before: Quillfeather")
        await site.shot(page, "member")
        await page.get_by_role("link", name="Erase").click()
        await page.locator("input[name=sure]").check()
        await page.get_by_role("button", name="Erase for good").click()
        await expect(page.get_by_role("status")).to_have_text("Everything that the member told has been erased.")
        await page.get_by_role("link", name="Member").click()
        await expect(page.locator(".prose")).to_contain_text("was erased on request")
        assert "Featherquill" not in await page.content()
        await site.shot(page, "member-erased")


async def test_cards_are_made_for_the_printer(site: Site) -> None:
    async with site.page(Role.OPERATOR) as page:
        await site.see(page, "/cards", "cards-none")
        await page.locator(".empty").get_by_role("link", name="Make a batch").click()
        await page.fill("#name", "Autumn")
        await page.fill("#count", "20")
        await page.fill("#prefix", "2100")
        await page.get_by_role("button", name="Make the batch").click()
        await expect(page.locator("h1")).to_have_text("Autumn")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Export for the printer").click()
        path = await (await download.value).path()
        assert len(path.read_text().splitlines()) == 21
        await site.shot(page, "batch")


async def test_a_page_can_be_printed(site: Site, lived: Lived) -> None:
    async with site.page(Role.OPERATOR) as page:
        await page.emulate_media(media="print")
        await site.see(page, f"/accounts/{lived.account}", "account-print")
        await expect(page.locator(".top")).to_be_hidden()
        await expect(page.locator(".deeds").first).to_be_hidden()
