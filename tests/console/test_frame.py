import re

from playwright.async_api import expect

from admin_api.security.permissions import Role
from tests.console.conftest import Site
from tests.rigs.people import PASSWORD, invited


async def test_an_invitation_is_accepted_and_the_password_lets_in_again(site: Site) -> None:
    person = await invited(site.rig.office)
    async with site.page(None) as page:
        await site.see(page, f"/invitation/{person.token}", "welcome")
        await expect(page.locator(".qr svg")).to_be_visible()
        await page.fill("#password", PASSWORD)
        await page.fill("#again", PASSWORD + "!")
        await page.fill("#code", person.code(site.rig.office))
        site.expected.append("422")
        await page.get_by_role("button", name="Begin").click()
        await expect(page.get_by_role("alert")).to_have_text("The two passwords are not the same.")
        person.last_step = 0
        await page.fill("#password", PASSWORD)
        await page.fill("#again", PASSWORD)
        await page.fill("#code", person.code(site.rig.office))
        await page.get_by_role("button", name="Begin").click()
        await expect(page.locator("h1")).to_have_text("Nothing has happened yet")
        await page.locator(".menu summary").click()
        await site.shot(page, "menu")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("status")).to_have_text("You are signed out.")

        await page.goto(f"{site.url}/operations")
        assert page.url.endswith("/sign-in?back=/operations")
        await site.shot(page, "sign-in")
        await page.fill("#email", person.email)
        await page.fill("#password", "a wrong one altogether")
        await page.fill("#code", "123456")
        site.expected.append("401")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("That did not work")
        await site.shot(page, "sign-in-failed")
        await page.fill("#password", PASSWORD)
        await page.fill("#code", person.code(site.rig.office))
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("h1")).to_have_text("Operations")


async def test_a_used_link_says_so(site: Site) -> None:
    site.expected.append("404")
    async with site.page(None) as page:
        await site.see(page, "/invitation/twi_none", "welcome-gone")
        await expect(page.locator("h1")).to_have_text("This link does not work")


async def test_a_page_that_is_not_there_says_so_in_plain_words(site: Site) -> None:
    site.expected.append("404")
    async with site.page(language="ru") as page:
        await site.see(page, "/nowhere", "error-404-ru")
        await expect(page.locator("h1")).to_have_text("Такой страницы нет")
        await expect(page.locator("nav.main a").first).to_have_text("Сводка")


async def test_a_page_for_others_says_so_in_plain_words(site: Site) -> None:
    site.expected.append("403")
    async with site.page(Role.MARKETER) as page:
        await site.see(page, "/operations", "error-403")
        await expect(page.locator("h1")).to_have_text("This is not for you to do")


async def test_a_database_that_is_away_is_said_in_plain_words(site: Site) -> None:
    site.expected.append("503")
    async with site.page(dark=True) as page:
        await page.goto(site.url)
        await site.rig.registry.close()
        site.rig.registry._postgres = type(site.rig.registry._postgres)("postgresql://nobody@127.0.0.1:1/none")
        await site.see(page, "/operations", "error-503-dark")
        await expect(page.locator("h1")).to_have_text("The database does not answer")


async def test_language_and_colours_are_chosen_and_kept(site: Site) -> None:
    async with site.page(phone=True) as page:
        await page.goto(f"{site.url}/operations")
        await page.locator(".menu summary").click()
        await page.get_by_role("button", name="Русский").click()
        await expect(page.locator("h1")).to_have_text("Работа системы")
        await page.locator(".menu summary").click()
        await page.get_by_role("button", name="Тёмные").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.url == f"{site.url}/operations"
        await page.locator(".menu summary").click()
        await site.shot(page, "operations-phone-dark-ru")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing sticks out to the side"


async def test_keys_move_through_the_console(site: Site) -> None:
    async with site.page() as page:
        await site.see(page, "/operations", "operations")
        await page.keyboard.press("/")
        await expect(page.locator("#find")).to_be_focused()
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        await expect(page.locator("#keys")).to_be_visible()
        await site.shot(page, "keys")
        await page.keyboard.press("Escape")
        await expect(page.locator("#keys")).to_be_hidden()


async def test_every_page_is_protected_by_the_policy(site: Site) -> None:
    async with site.page() as page:
        answer = await page.goto(site.url)
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"\sstyle=|\son\w+=|<style", await page.content())


async def test_a_form_from_another_site_is_refused(site: Site) -> None:
    async with site.page() as page:
        await page.goto(site.url)
        answer = await page.context.request.post(f"{site.url}/sign-out", form={})
        assert answer.status == 403


async def test_nobody_is_sent_to_another_site_after_signing_in(site: Site) -> None:
    async with site.page() as page:
        for back in ("https://evil.test/", "//evil.test/", "/\\evil.test"):
            await page.goto(f"{site.url}/sign-in?back={back}")
            assert page.url == f"{site.url}/"


async def test_what_matters_is_asked_before_it_is_sent(site: Site) -> None:
    async with site.page() as page:
        await page.goto(f"{site.url}/operations")
        # The form of the colours, as if that mattered.
        await page.evaluate("document.querySelector('form[action=\"/preferences\"]').dataset.confirm = 'Really?'")
        await page.locator(".menu summary").click()
        await page.get_by_role("button", name="Dark").click()
        await expect(page.locator("#confirm p")).to_have_text("Really?")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "auto")
        await page.get_by_role("button", name="Dark").click()
        await site.shot(page, "confirm")
        await page.get_by_role("button", name="Yes, go on").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_rows_of_a_table_are_walked_by_keys(site: Site) -> None:
    async with site.page() as page:
        await page.goto(f"{site.url}/operations")
        await page.evaluate(
            """document.querySelector('main').innerHTML = '<table class="rows"><tbody>'
            + ['a', 'b', 'c'].map((n) => `<tr><td><a href="#${n}">${n}</a></td></tr>`).join('') + '</tbody></table>'"""
        )
        for key, focused in (("j", "a"), ("j", "b"), ("j", "c"), ("j", "c"), ("k", "b")):
            await page.keyboard.press(key)
            await expect(page.get_by_role("link", name=focused, exact=True)).to_be_focused()


async def test_a_session_that_ended_leads_to_the_sign_in_when_a_part_is_fetched(site: Site) -> None:
    async with site.page() as page:
        site.expected.append("401")
        await page.goto(f"{site.url}/operations")
        await page.context.clear_cookies(name="tillwire")
        await page.wait_for_url("**/sign-in?back=/operations", timeout=30_000)
