"""An owner opens a store, and its register signs on with what the page showed."""

import csv
import io
from pathlib import Path

import asyncpg
from playwright.async_api import expect

from admin_api.security.permissions import Role
from tests.console.conftest import Site
from tests.rigs.signing_on import signs_on


async def fits(page: object, width: int) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"  # type: ignore[attr-defined]


async def test_a_store_is_opened_and_its_register_signs_on(site: Site) -> None:
    ledger = site.rig.ledger
    async with site.page() as page:
        await site.see(page, "/coalition", "coalition-stores")
        await page.get_by_role("link", name="Networks").click()
        await page.get_by_role("link", name="Harvest Market").click()
        await site.shot(page, "network")
        await page.get_by_role("link", name="Open a store").click()
        await page.fill("#store", "North Gate")
        await page.fill("#codes", "north-1 north-2\nnorth 3 \u00e4")
        await page.get_by_text("What these terminals may do").click()
        site.expected.append("422")
        await page.get_by_role("button", name="Open and show").click()
        await expect(page.locator("#codes-0-wrong")).to_contain_text("is no code")
        await site.shot(page, "store-new-wrong")
        await page.fill("#codes", "north-1 north-2\nnorth-3")
        await page.get_by_role("button", name="Open and show").click()
        await expect(page.get_by_role("alert")).to_contain_text("never again")
        await site.shot(page, "credentials")
        secrets = await page.locator("code.secret").all_inner_texts()
        assert len(secrets) == 3
        assert await signs_on(ledger, "north-2", secrets[1])
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download").click()
        saved = Path(await (await download.value).path()).read_text("utf-8-sig")
        assert [row[1:3] for row in csv.reader(io.StringIO(saved))][2] == ["north-2", secrets[1]]
        await page.reload()
        assert await page.locator("code.secret").all_inner_texts() == secrets, "sent again, it does nothing again"
        await page.get_by_role("link", name="I have kept them").click()
        await expect(page.locator("h1")).to_have_text("North Gate")
        await site.shot(page, "store")

        await page.get_by_role("link", name="north-2").click()
        await site.shot(page, "terminal")
        await page.get_by_role("link", name="Suspend").click()
        await site.shot(page, "terminal-suspend")
        await page.get_by_role("button", name="Yes, suspend it").click()
        await expect(page.get_by_role("status")).to_contain_text("north-2 is suspended")
        assert not await signs_on(ledger, "north-2", secrets[1])
        await page.get_by_role("link", name="Let work again").click()
        await page.get_by_role("button", name="Yes, let it work").click()
        assert await signs_on(ledger, "north-2", secrets[1])
        await page.get_by_role("link", name="Revoke").click()
        await site.shot(page, "terminal-revoke")
        await page.get_by_role("button", name="Yes, revoke it for ever").click()
        await expect(page.locator(".state-tag")).to_have_text("revoked")
        assert not await signs_on(ledger, "north-2", secrets[1])


async def test_a_new_installation_leads_by_the_hand_to_its_first_store(site: Site) -> None:
    db = await asyncpg.connect(site.rig.postgres_url)
    await db.execute("TRUNCATE partner, card CASCADE")
    await db.close()
    async with site.page(language="ru", phone=True, scripts=False) as page:
        await site.see(page, "/", "first-steps-empty-ru-phone")
        await page.get_by_role("link", name="Принять партнёра").click()
        await page.fill("#partner", "Фирма «Урожай»")
        await page.fill("#network", "Урожай рядом")
        await page.fill("#currency", "rub")
        await page.fill("#earn_rate_bp", "4,5")
        await page.fill("#store-0", "Ленина, 4")
        await page.fill("#codes-0", "lenina-1 lenina-2")
        await page.get_by_role("button", name="Ещё магазин").click()
        await page.fill("#store-1", "Мира, 17")
        await page.fill("#codes-1", "mira-1")
        await site.shot(page, "partner-new-ru-phone")
        await fits(page, 360)
        await page.get_by_role("button", name="Принять и показать").last.click()
        await expect(page.get_by_role("alert")).to_contain_text("больше никогда")
        await site.shot(page, "credentials-ru-phone")
        await fits(page, 360)
        secrets = await page.locator("code.secret").all_inner_texts()
        assert await signs_on(site.rig.ledger, "mira-1", secrets[2])
        await page.get_by_role("link", name="Сохранено, дальше").click()
        await expect(page.locator("h1")).to_have_text("Фирма «Урожай»")
        await site.shot(page, "partner-ru-phone")
        await fits(page, 360)
        await site.see(page, "/", "first-steps-half-ru-phone")
        await expect(page.locator(".steps li.done")).to_have_count(2)
        await site.see(page, "/coalition?view=terminals", "coalition-terminals-ru-phone")
        await fits(page, 360)


async def test_a_partner_keeps_its_own_terminals(site: Site) -> None:
    async with site.page(Role.PARTNER, partner_id=1, dark=True) as page:
        await site.see(page, "/coalition?view=terminals", "coalition-partner-dark")
        await expect(page.locator("nav.main a")).to_have_text(["Dashboard", "Coalition", "Relays", "Rules"])
        await page.get_by_role("link", name="till-1").click()
        await page.get_by_role("link", name="New secret").click()
        await page.get_by_role("button", name="Yes, make a new secret").click()
        await site.shot(page, "credentials-dark")
        (secret,) = await page.locator("code.secret").all_inner_texts()
        assert await signs_on(site.rig.ledger, "till-1", secret)
