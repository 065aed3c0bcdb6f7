"""An auditor looks through what was done, and takes a file along; operators keep the installation."""

from pathlib import Path
from typing import Any

from playwright.async_api import expect

from admin_api.security.permissions import Role
from tests.console.conftest import Site
from tests.console.test_coalition import fits


async def test_what_was_done_is_found_and_exported(site: Site) -> None:
    async with site.page() as page:
        await page.goto(f"{site.url}/coalition/stores/1/suspend")
        await page.get_by_role("button", name="Yes, suspend the store").click()
        await page.get_by_role("link", name="Let work again").click()
        await page.get_by_role("button", name="Yes, let it work").click()
    async with site.page(Role.AUDITOR) as page:
        await site.see(page, "/audit", "audit")
        await page.select_option("select[name=action]", label="Stores")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("table.audit tbody tr")).to_have_count(2)
        await page.locator("details.data summary").first.click()
        await site.shot(page, "audit-details")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Export as CSV").click()
        text = Path(await (await download.value).path()).read_text("utf-8")
        assert text.count("store.change") == 2
        await page.get_by_role("link", name="store 1").first.click()
        await expect(page.locator("h1")).to_have_text("Mill Street")
    async with site.page(Role.AUDITOR, phone=True, language="ru") as page:
        await site.see(page, "/audit", "audit-ru-phone")
        await fits(page, 360)


class _Proofs:
    def __init__(self) -> None:
        self.now: dict[str, Any] = {"id": "", "state": "none", "done": 0, "total": 0, "findings": {}}

    def start(self) -> str:
        self.now = {"id": "1", "state": "running", "done": 40, "total": 100, "findings": {}}
        return "1"

    def state(self) -> dict[str, Any]:
        return self.now


async def test_the_books_are_proved_with_progress_and_trouble_is_said_in_plain_words(site: Site) -> None:
    proofs = _Proofs()
    object.__setattr__(site.rig.office, "proofs", proofs)
    partitions = {
        str(number): {"serving": number != 1, "standby": number == 2, "trouble": "", "backlog": 3, "lag_ms": 12}
        for number in range(4)
    }
    worker = {"index": 0, "pid": 7, "state": "ready", "down": ["partition 1"]}
    health = {
        "live": True, "ready": True, "state": "serving", "down": ["partition 1", "worker 1"], "restarts": 1,
        "workers": [{**worker, "detail": {"connections": 12, "accepting": True, "partitions": partitions}}],
    }  # fmt: skip

    async def told() -> dict[str, Any]:
        return health

    site.rig.installation.health = told  # type: ignore[method-assign]
    async with site.page(Role.OPERATOR) as page:
        await page.goto(f"{site.url}/operations")
        await expect(page.get_by_role("alert")).to_contain_text("not everything works")
        await page.get_by_role("button", name="Prove the books now").click()
        await expect(page.locator("progress")).to_have_attribute("value", "40")
        await site.shot(page, "operations-trouble")
        proofs.now = {
            "id": "1", "state": "clean", "done": 100, "total": 100,
            "findings": {"accounts": 100, "entries": 1_204, "balance": 123_456},
        }  # fmt: skip
        await expect(page.locator("#verify .state-tag")).to_have_text("clean")
        await site.see(page, "/operations/drain", "operations-drain")
    async with site.page(Role.OPERATOR, phone=True, dark=True, language="ru") as page:
        await site.see(page, "/operations", "operations-ru-phone-dark")
        await fits(page, 360)
