"""The console in a real Chromium, on a real server with real engines behind it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvicorn
import uvloop
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from admin_api.security.permissions import Role
from ledger.clock import SystemClock
from tests.rigs.figures_demo import fill
from tests.rigs.office_rig import OfficeRig
from tests.rigs.people import invited, session_cookie

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
#: Network and share of each store.
CHAIN = {1: (1, 0.5), 2: (1, 0.3), 3: (2, 0.2)}
TROUBLE_MS = 1_800_000
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# What the policy forbids is told on the console, which tests watch.
_TELL_VIOLATIONS = """document.addEventListener("securitypolicyviolation",
    (e) => console.error("policy", e.violatedDirective, e.blockedURI))"""


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def chromium() -> str:
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if found is None:
        message = "no Chromium is installed (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@dataclass
class Site:
    """A console at an address, and a browser that looks at it. What went wrong in any page is in `complaints`."""

    rig: OfficeRig
    url: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    #: Parts of complaints that a test provokes.
    expected: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def page(
        self, role: Role | None = Role.OWNER, *, phone: bool = False, dark: bool = False, language: str = "en",
        partner_id: int | None = None, scripts: bool = True,
    ) -> AsyncIterator[Page]:  # fmt: skip
        """Open a page as somebody of this role, or as nobody."""
        context = await self.browser.new_context(
            viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light",
            locale=language,
            java_script_enabled=scripts,
        )
        try:
            await context.add_init_script(_TELL_VIOLATIONS)
            await context.add_cookies([{"name": "tillwire-language", "value": language, "url": self.url}])
            if role is not None:
                await self._sign_in(context, role, partner_id)
            context.set_default_timeout(15_000)
            page = await context.new_page()
            self._watch(page)
            yield page
        finally:
            await context.close()

    async def _sign_in(self, context: BrowserContext, role: Role, partner_id: int | None) -> None:
        email = f"{role}{len(self.complaints)}{id(context)}@example.com"
        person = await invited(self.rig.office, role, email=email, partner_id=partner_id)
        secret = await session_cookie(self.rig, person.user_id)
        await context.add_cookies([{"name": "tillwire", "value": secret, "url": self.url}])

    def _watch(self, page: Page) -> None:
        def request(asked: Any) -> None:
            if not asked.url.startswith(self.url + "/"):
                self.complaints.append(f"request to {asked.url}")

        def told(message: Any) -> None:
            if message.type == "error":
                self.complaints.append(f"console: {message.text}")

        page.on("request", request)
        page.on("console", told)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))

    async def see(self, page: Page, path: str, name: str) -> None:
        """Go to a page and keep how it looks."""
        await page.goto(self.url + path)
        await self.shot(page, name)

    @staticmethod
    async def shot(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@asynccontextmanager
async def running(postgres_url: str, valkey_url: str) -> AsyncIterator[Site]:
    executable = chromium()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        rig = OfficeRig(postgres_url, valkey_url)
        rig.console_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with rig.running(), async_playwright() as playwright:
            server = uvicorn.Server(uvicorn.Config(rig.app, ws="none", lifespan="off", log_config=None))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            browser = await playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
            site = Site(rig, rig.console_url, browser)
            try:
                yield site
            finally:
                await browser.close()
                server.should_exit = True
                await serving
    complaints = [one for one in site.complaints if not any(part in one for part in site.expected)]
    assert complaints == []


@pytest.fixture
async def site(postgres_url: str, valkey_url: str) -> AsyncIterator[Site]:
    async with running(postgres_url, valkey_url) as site:
        yield site


@pytest.fixture(scope="session")
def figures_template(make_template: Callable[[str, Callable[[Any], Awaitable[None]]], str]) -> str:
    """Make a database with a week of figures once: of a chain whose stores a test adds, as nothing refers to them."""

    async def gathered(db: Any) -> None:
        await fill(db, SystemClock().now_ms(), 8, stores=CHAIN, trouble_ms=TROUBLE_MS)

    return make_template("figures", gathered)


@pytest.fixture
async def chain(databases: Callable[[str], str], figures_template: str, valkey_url: str) -> AsyncIterator[Site]:
    """The same with a second network, a week of figures and some trouble half an hour ago."""
    async with running(databases(figures_template), valkey_url) as site:
        db = await asyncpg.connect(site.rig.postgres_url)
        await db.execute(
            """INSERT INTO network (partner_id, name, currency) VALUES (1, 'Harvest Express', 'EUR');
            INSERT INTO store (network_id, name) VALUES (1, 'Station Square'), (2, 'Airport, Terminal 2')"""
        )
        await db.close()
        # The dashboard wants to know that there is a journal at all.
        await site.rig.office.desk.adjust(os.urandom(16), site.rig.cards[0].account, 1_000, 0, "first")
        yield site
