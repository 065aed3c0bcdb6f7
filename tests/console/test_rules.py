"""A marketer changes the rules with a preview, and a register's next sale follows them."""

import asyncio
from datetime import UTC, datetime, timedelta

from playwright.async_api import expect

from admin_api.security.permissions import Role
from tests.console.conftest import Site
from tests.console.test_coalition import fits


async def lives_by(site: Site, earn_rate_bp: int) -> None:
    """Wait until the ledger, which hears of changes by itself, decides by this rate."""
    ledger, clock = site.rig.ledger, site.rig.clock
    async with asyncio.timeout(10):
        while ledger.programme.networks[1].rules_at(clock.now_ms()).earn_rate_bp != earn_rate_bp:
            await asyncio.sleep(0.05)


async def test_rules_are_tried_saved_planned_withdrawn_and_brought_back(site: Site) -> None:
    async with site.page(Role.MARKETER) as page:
        await site.see(page, "/programme", "programme")
        await page.get_by_role("link", name="Harvest Market").click()
        await page.get_by_role("link", name="Change the rules").click()
        await page.fill("#earn_rate_bp", "7.5")
        await page.fill("#share_bp", "50")
        await page.fill("#expiry_months", "12")
        await page.fill("#slip", "Spent {spent}\nEarned {earned}\nBalance {available} until {expiring_on}")
        await page.fill("#amount", "80.00")
        await page.get_by_role("button", name="Show what would happen").last.click()
        earned = page.locator("#preview tr", has_text="Points earned").locator("td")
        await expect(earned).to_have_text(["3.50", "5.25"])
        await expect(page.locator(".slips pre").nth(1)).to_contain_text("Spent 10.00\nEarned 5.25")
        await site.shot(page, "rules-preview")
        await page.fill("#slip", "Hello {name}")
        site.expected.append("422")
        await page.get_by_role("button", name="Save the rules").first.click()
        await expect(page.locator("#slip-wrong")).to_contain_text("Line 1 names something")
        await site.shot(page, "rules-wrong")
        await page.fill("#slip", "Earned {earned}")
        await page.fill("#note", "Spring campaign")
        await page.get_by_role("button", name="Save the rules").first.click()
        await expect(page.get_by_role("status")).to_contain_text("in force within a second")
        await lives_by(site, 750)

        await page.get_by_role("link", name="Change the rules").click()
        await page.fill("#earn_rate_bp", "20")
        await page.get_by_label("From the beginning of this day on").check()
        await page.fill("[name=day]", (datetime.now(UTC) + timedelta(days=9)).date().isoformat())
        await page.get_by_role("button", name="Save the rules").first.click()
        await expect(page.locator(".versions li").first).to_contain_text("planned")
        await site.shot(page, "rules-versions")
        await lives_by(site, 750)
        await page.get_by_role("link", name="Withdraw").click()
        await page.get_by_role("button", name="Yes, withdraw it").click()
        await expect(page.locator(".versions li").first).to_contain_text("withdrawn")

        await page.get_by_role("link", name="Bring back").last.click()
        await site.shot(page, "rules-rollback")
        await page.get_by_role("button", name="Yes, bring it back").click()
        await expect(page.get_by_role("status")).to_contain_text("holds again")
        await lives_by(site, 500)


async def test_the_form_of_rules_fits_a_phone_and_speaks_russian(site: Site) -> None:
    async with site.page(Role.MARKETER, phone=True, dark=True, language="ru", scripts=False) as page:
        await site.see(page, "/programme", "programme-ru-phone-dark")
        await fits(page, 360)
        await page.goto(f"{site.url}/programme/networks/1/change")
        await page.fill("#earn_rate_bp", "7,5")
        await page.keyboard.press("Enter")
        await expect(page.locator("#preview thead th")).to_have_count(2)
        await site.shot(page, "rules-preview-ru-phone-dark")
        await fits(page, 360)
        await site.see(page, "/programme/networks/1", "rules-versions-ru-phone-dark")
        await fits(page, 360)
