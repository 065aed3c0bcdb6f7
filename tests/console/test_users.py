"""An owner invites somebody who then signs in with an authenticator; tokens are made and revoked."""

from urllib.parse import urlsplit

from playwright.async_api import expect

from tests.console.conftest import Site
from tests.console.test_coalition import fits
from tests.rigs.people import PASSWORD, Person


async def test_somebody_is_invited_signs_in_and_is_suspended(site: Site) -> None:
    async with site.page() as page, site.page(None) as other:
        await page.goto(f"{site.url}/users")
        await page.get_by_role("link", name="Invite somebody").click()
        await page.fill("#name", "Olga Petrova")
        await page.fill("#email", "olga@example.com")
        await page.get_by_label("Operator").check()
        await site.shot(page, "user-new")
        await page.get_by_role("button", name="Invite").click()
        await site.shot(page, "user-link")
        link = await page.locator("#told").inner_text()
        await page.get_by_role("link", name="I have kept it").click()
        await expect(page.locator(".state-tag").first).to_have_text("has not used the link yet")

        token = urlsplit(link).path.rpartition("/")[2]
        person = Person(0, "olga@example.com", token, site.rig.office.guard.codes.secret_of(token))
        await other.goto(link)
        await other.fill("#password", PASSWORD)
        await other.fill("#again", PASSWORD)
        await other.fill("#code", person.code(site.rig.office))
        await other.get_by_role("button", name="Begin").click()
        await other.wait_for_url(f"{site.url}/")
        await site.see(other, "/profile", "profile")
        await expect(other.locator(".standing")).to_contain_text("Operator")

        await page.reload()
        await expect(page.locator(".state-tag").first).to_have_text("can sign in")
        await site.shot(page, "user")
        await site.see(page, "/users", "users")
        await page.get_by_role("link", name="Olga Petrova").click()
        await page.get_by_role("link", name="Suspend").click()
        await page.get_by_role("button", name="Yes, suspend").click()
        await expect(page.get_by_role("status")).to_contain_text("out at once")
        await other.reload()
        assert "/sign-in" in other.url


async def test_a_token_is_made_shown_once_and_revoked(site: Site) -> None:
    async with site.page(phone=True, dark=True) as page:
        await page.goto(f"{site.url}/tokens")
        await site.shot(page, "tokens-none-phone-dark")
        await page.get_by_role("link", name="Make a token").first.click()
        await page.fill("#name", "Web shop")
        site.expected.append("422")
        await page.get_by_role("button", name="Make it").click()
        await expect(page.locator("#permissions-wrong")).to_be_visible()
        await page.get_by_label("See figures").check()
        await site.shot(page, "token-new-phone-dark")
        await fits(page, 360)
        await page.get_by_role("button", name="Make it").click()
        await expect(page.locator("#told")).to_contain_text("tw_")
        await site.shot(page, "token-phone-dark")
        await fits(page, 360)
        await page.get_by_role("link", name="I have kept it").click()
        await site.shot(page, "tokens-phone-dark")
        await fits(page, 360)
        await page.get_by_role("link", name="Revoke").click()
        await page.get_by_role("button", name="Yes, revoke it").click()
        await expect(page.locator(".state-tag")).to_have_text("revoked")
