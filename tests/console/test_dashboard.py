import re

import pytest
from playwright.async_api import expect

from admin_api.security.permissions import Role
from tests.console.conftest import Site


async def test_a_new_installation_says_what_to_do_first(site: Site) -> None:
    async with site.page() as page:
        await site.see(page, "/", "first-steps")
        await expect(page.locator("h1")).to_have_text("Nothing has happened yet")
        await expect(page.locator(".steps li.done")).to_have_count(3)


@pytest.mark.parametrize("period", ["15m", "1h", "24h", "7d", "30d"])
async def test_the_dashboard_shows_every_plot_of_each_period(chain: Site, period: str) -> None:
    async with chain.page() as page:
        await chain.see(page, f"/?period={period}", f"dashboard-{period}")
        titles = await page.locator(".plot-card h2").all_inner_texts()
        assert titles[:4] == ["Answers per second", "Time to answer, ms", "Approvals", "Declines by reason"]
        assert len(titles) == 12
        await expect(page.locator(".tile")).to_have_count(8)
        await expect(page.locator(".segments a[aria-current]")).to_have_attribute("href", f"/?period={period}")


@pytest.mark.parametrize(
    ("name", "phone", "dark", "language"),
    [
        ("dark", False, True, "en"),
        ("phone", True, False, "en"),
        ("phone-dark-ru", True, True, "ru"),
        ("ru", False, False, "ru"),
    ],
)
async def test_the_dashboard_looks_good(chain: Site, name: str, phone: bool, dark: bool, language: str) -> None:
    async with chain.page(phone=phone, dark=dark, language=language) as page:
        await chain.see(page, "/", f"dashboard-{name}")
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= (360 if phone else 1280), "nothing sticks out to the side"


async def test_what_left_its_band_is_marked_and_said(chain: Site) -> None:
    async with chain.page() as page:
        await page.goto(f"{chain.url}/?period=1h")
        latency = page.locator("#plot-latency")
        assert await latency.locator("circle.mark").count() > 0
        await expect(latency.locator(".note").first).to_contain_text("usually")
        await expect(page.locator("#plot-declines .note").first).to_contain_text("usually")


async def test_every_plot_has_a_table_that_stays_open_while_it_is_refreshed(chain: Site) -> None:
    async with chain.page() as page:
        await page.goto(f"{chain.url}/?period=15m")
        await page.locator("#data-declines summary").click()
        rows = page.locator("#data-declines tbody tr")
        assert await rows.count() in (14, 15)
        async with page.expect_response(lambda answer: "/dashboard/plots" in answer.url, timeout=30_000):
            pass
        await expect(page.locator("#data-declines")).to_have_attribute("open", "")


async def test_the_tiles_follow_what_happens(chain: Site) -> None:
    async with chain.page() as page:
        await page.goto(chain.url)
        before = await page.locator(".as-of").inner_text()
        await expect(page.locator(".as-of")).not_to_have_text(before, timeout=30_000)


async def test_a_network_and_a_store_can_be_chosen(chain: Site) -> None:
    async with chain.page() as page:
        await page.goto(f"{chain.url}/?period=24h")
        await page.select_option("select[name=network]", label="Harvest Market")
        await page.wait_for_url(re.compile("network=1"))
        assert await page.locator("select[name=store] option").all_inner_texts() == [
            "All stores",
            "Mill Street",
            "Station Square",
        ]
        await page.select_option("select[name=store]", label="Mill Street")
        await page.wait_for_url(re.compile("store=1"))
        await chain.shot(page, "dashboard-store")
        titles = await page.locator(".plot-card h2").all_inner_texts()
        assert "Receipts" in titles
        assert "Journal lag, ms" not in titles, "that is not a store's"


async def test_a_partner_sees_own_networks_only(chain: Site) -> None:
    async with chain.page(Role.PARTNER, partner_id=1) as page:
        await chain.see(page, "/", "dashboard-partner")
        await expect(page.locator(".tile dt").first).to_have_text("Approved")
        await expect(page.locator("#find")).to_have_count(0)
        await expect(page.locator("nav.main a")).to_have_text(["Dashboard", "Coalition", "Relays", "Rules"])


async def test_it_works_without_scripts(chain: Site) -> None:
    async with chain.page(scripts=False) as page:
        await page.goto(f"{chain.url}/?period=24h")
        await page.select_option("select[name=network]", label="Harvest Express")
        await page.get_by_role("button", name="Show").click()
        assert "network=2" in page.url
        await expect(page.locator(".segments a[aria-current]")).to_have_text("24 hours")
