"""A store gets a relay on its page, and what relays promised in vain is read aloud and settled."""

import os
from pathlib import Path
from typing import Any

import asyncpg
from playwright.async_api import Page, expect

from admin_api.coalition.relays import NewRelay, add_relay
from admin_api.security.actor import Actor
from admin_api.security.permissions import Role
from ledger.operations import Operation, Outcome
from protocol.relay_keys import RelayCredential, relay_key
from tests.console.conftest import Site
from tests.console.test_coalition import fits
from tests.rigs.conflicts import MINUTE_MS, add_conflict
from tests.rigs.office_rig import EVERYTHING, RELAY_MASTER


async def told(site: Site, relay_id: int, **values: Any) -> None:
    """Note what a bridge would note of a relay."""
    db = await asyncpg.connect(site.rig.postgres_url)
    for name, value in values.items():
        await db.execute(f"UPDATE relay SET {name} = $2 WHERE terminal_id = $1", relay_id, value)  # noqa: S608
    await db.close()


async def given(site: Site, store_id: int, code: str, points: int = 0) -> int:
    actor = Actor("system", "system", EVERYTHING)
    asked = NewRelay(store_id=store_id, code=code, allowance_points=points)
    return (await add_relay(site.rig.office, actor, asked)).relay_id


async def another_store(site: Site, name: str) -> int:
    db = await asyncpg.connect(site.rig.postgres_url)
    store = await db.fetchval("INSERT INTO store (network_id, name) VALUES (1, $1) RETURNING store_id", name)
    await db.close()
    return int(store)


async def three_relays(site: Site) -> tuple[int, int, int]:
    """One on line with a backlog, one silent for hours, one that was never set up."""
    now_ms = site.rig.clock.now_ms()
    up = await given(site, 1, "mill-relay", 5_000)
    silent = await given(site, await another_store(site, "Station Square"), "station-relay")
    never = await given(site, await another_store(site, "North Gate"), "north-relay")
    await told(
        site, up, heard_ms=now_ms, software="tillwire relay 1.0", queued=1_204, oldest_ms=now_ms - 45 * MINUTE_MS,
        offline_since_ms=now_ms - 50 * MINUTE_MS,
    )  # fmt: skip
    await told(site, silent, heard_ms=now_ms - 180 * MINUTE_MS, queued=0)
    return up, silent, never


async def some_conflicts(site: Site, relay: int) -> dict[str, int]:
    """One of each kind, by operation."""
    now_ms, url, account = site.rig.clock.now_ms(), site.rig.postgres_url, site.rig.cards[0].account
    return {
        "release": await add_conflict(
            url, relay, now_ms, op=int(Operation.RELEASE), outcome=int(Outcome.HOLD_EXPIRED), amount=0,
            reference=os.urandom(16).hex(), account_id=account,
        ),
        "reverse": await add_conflict(
            url, relay, now_ms, op=int(Operation.REVERSE), outcome=5, amount=0, reference=os.urandom(16).hex(),
            account_id=account,
        ),
        "redeem": await add_conflict(
            url, relay, now_ms, op=int(Operation.REDEEM), outcome=int(Outcome.HOLD_EXPIRED), points=700,
            account_id=account,
        ),
        "sale": await add_conflict(url, relay, now_ms, op=int(Operation.SALE), outcome=int(Outcome.UNKNOWN_CARD)),
        "earn": await add_conflict(url, relay, now_ms, account_id=account),
    }  # fmt: skip


async def request_of(site: Site, conflict: int) -> str:
    db = await asyncpg.connect(site.rig.postgres_url)
    request_id = await db.fetchval("SELECT request_id FROM office.conflict WHERE conflict_id = $1", conflict)
    await db.close()
    return bytes(request_id).hex()


async def credential_on(page: Page) -> RelayCredential:
    return RelayCredential.parse(await page.locator("#credential").inner_text())


async def test_a_store_is_given_a_relay_whose_credential_is_shown_once(site: Site) -> None:
    async with site.page() as page:
        await page.goto(f"{site.url}/coalition/stores/1")
        await page.get_by_role("link", name="Give it a relay").click()
        await site.shot(page, "relay-new")
        site.expected.append("422")
        await page.fill("#code", "mill relay")
        await page.fill("#points", "many")
        await page.fill("#hours", "0")
        await page.get_by_role("button", name="Give and show").click()
        for name in ("code", "points", "hours"):
            await expect(page.locator(f"#{name}-wrong")).to_be_visible()
        await site.shot(page, "relay-new-wrong")
        await page.fill("#code", "mill-relay")
        await page.fill("#points", "1000.50")
        await page.fill("#hours", "48")
        await page.get_by_role("button", name="Give and show").click()
        await expect(page.get_by_role("alert")).to_contain_text("never again")
        await site.shot(page, "relay-credential")
        credential = await credential_on(page)
        assert credential.key == relay_key(RELAY_MASTER, "mill-relay", 1)
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download").click()
        file = await download.value
        assert file.suggested_filename == "relay.credential"
        saved = Path(await file.path()).read_text()
        assert RelayCredential.parse(saved) == credential, "sent again, it does nothing again"
        await page.reload()
        assert await credential_on(page) == credential
        await page.get_by_role("link", name="I have kept it").click()
        await expect(page.locator(".standing")).to_contain_text("Never heard yet.")
        await expect(page.locator(".panel")).to_contain_text("1,000.50 points")
        assert await page.locator("#points").input_value() == "1000.50"
        await site.shot(page, "relay-never")

        await page.fill("#points", "")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator(".panel")).to_contain_text("nobody pays with points")
        await page.get_by_role("link", name="New key").click()
        await site.shot(page, "relay-rotate")
        await page.get_by_role("button", name="Yes, make a new key").click()
        rotated = await credential_on(page)
        assert (rotated.generation, rotated.key) == (2, relay_key(RELAY_MASTER, "mill-relay", 2))
        await site.shot(page, "relay-credential-rotated")
        await page.get_by_role("link", name="I have kept it").click()
        await page.get_by_role("link", name="Suspend").click()
        await page.get_by_role("button", name="Yes, suspend it").click()
        await expect(page.get_by_role("status")).to_contain_text("mill-relay is suspended. The store works")
        await page.get_by_role("link", name="Let work again").click()
        await page.get_by_role("button", name="Yes, let it work").click()
        await page.get_by_role("link", name="Revoke").click()
        await expect(page.locator(".deed")).to_contain_text("never arrives")
        await site.shot(page, "relay-revoke")
        await page.get_by_role("button", name="Yes, revoke it for ever").click()
        await expect(page.locator(".state-tag")).to_have_text("revoked")
        await page.goto(f"{site.url}/coalition/stores/1")
        await expect(page.get_by_role("link", name="Give it a relay")).to_be_visible()


async def test_a_second_relay_for_a_store_is_refused_with_words(site: Site) -> None:
    site.expected.append("409")
    async with site.page() as page:
        await page.goto(f"{site.url}/coalition/stores/1/relay")
        await given(site, 1, "mill-relay")
        await page.fill("#code", "second")
        await page.get_by_role("button", name="Give and show").click()
        await expect(page.get_by_role("alert")).to_contain_text("the store has the relay mill-relay")


async def test_relays_tell_in_plain_words_how_they_are(site: Site) -> None:
    up, _silent, never = await three_relays(site)
    async with site.page() as page:
        await site.see(page, "/relays", "relays")
        rows = page.locator("tbody tr")
        await expect(rows.nth(0)).to_contain_text("on line")
        await expect(rows.nth(0)).to_contain_text("1,204 requests wait in it, the oldest since")
        await expect(rows.nth(1)).to_contain_text("3 hours ago")
        await expect(rows.nth(1).locator(".state-tag.off")).to_have_text("not heard")
        await expect(rows.nth(2).locator(".state-tag.off")).to_have_text("never heard")
        await page.get_by_role("link", name="Not heard").click()
        await expect(rows).to_have_count(2)
        await page.goto(f"{site.url}/relays?q=north")
        await expect(rows).to_have_count(1)
        await site.see(page, f"/relays/{up}", "relay")
        await expect(page.locator(".standing .state-tag")).to_have_text("on line")
        await site.see(page, f"/coalition/terminals/{up}/revoke", "relay-revoke-waiting")
        await expect(page.locator(".deed .flash")).to_contain_text("1,204 requests wait in it")
        await site.see(page, "/coalition/stores/1", "store-with-relay")
        await expect(page.locator(".standing")).to_contain_text("Relay mill-relay")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await site.see(page, "/coalition?view=terminals", "coalition-terminals-relays")
        await expect(page.locator(".state-tag", has_text="relay")).to_have_count(3)
        await page.goto(f"{site.url}/coalition/terminals/{never}")
        assert page.url.endswith(f"/relays/{never}"), "a relay's page is its own"


async def test_a_conflict_is_read_aloud_and_settled_with_a_note(chain: Site) -> None:
    relay = await given(chain, 1, "mill-relay")
    found = await some_conflicts(chain, relay)
    account = chain.rig.cards[0].account
    async with chain.page() as page:
        await chain.see(page, "/", "dashboard-conflicts")
        await page.get_by_role("link", name="5 things that stores had approved").click()
        await chain.shot(page, "conflicts")
        await expect(page.locator("tbody tr")).to_have_count(5)
        for name, number in found.items():
            await chain.see(page, f"/conflicts/{number}", f"conflict-{name}")
        await expect(page.locator(".deed .lead")).to_contain_text("Harvest Market, Mill Street, till-1")
        await expect(page.locator(".deed .lead")).to_contain_text("A purchase of €25.00 was to earn points.")
        await expect(page.locator(".deed")).to_contain_text("and declined: card is blocked.")
        await expect(page.get_by_role("link", name=f"Account {account}")).to_be_visible()
        chain.expected.append("422")
        await page.fill("#note", " ")
        await page.get_by_role("button", name="Settle").click()
        await expect(page.locator("#note-wrong")).to_be_visible()
        await page.fill("#note", "1.25 points given by hand")
        await page.get_by_role("button", name="Settle").click()
        await expect(page.get_by_role("status")).to_have_text(f"Conflict {found['earn']} is settled.")
        await expect(page.locator("tbody tr")).to_have_count(4)
        await chain.see(page, f"/conflicts/{found['earn']}", "conflict-settled")
        await expect(page.locator(".facts")).to_contain_text("1.25 points given by hand")
        await expect(page.locator("form.fields")).to_have_count(0)
        await page.goto(f"{chain.url}/conflicts?show=settled")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await chain.see(page, f"/accounts/{account}", "account-conflicts")
        await expect(page.locator("a[href^='/conflicts/']")).to_have_count(3)
        chain.expected.append("404")
        await page.goto(f"{chain.url}/requests/{await request_of(chain, found['sale'])}")
        await page.get_by_role("link", name="This could not be done").click()
        assert page.url.endswith(f"/conflicts/{found['sale']}")
        await page.goto(f"{chain.url}/audit?action=conflict")
        await expect(page.locator("tbody tr")).to_contain_text("Settled a conflict")


async def test_on_a_phone_in_russian_without_scripts_all_of_it_works(site: Site) -> None:
    relay, *_ = await three_relays(site)
    found = await some_conflicts(site, relay)
    async with site.page(language="ru", phone=True, scripts=False, dark=True) as page:
        await site.see(page, "/relays", "relays-ru-phone-dark")
        await fits(page, 360)
        await site.see(page, f"/relays/{relay}", "relay-ru-phone-dark")
        await fits(page, 360)
        await page.fill("#points", "12,50")
        await page.get_by_role("button", name="Сохранить").click()
        await expect(page.locator(".panel")).to_contain_text("до 12,50 балла")
        await site.see(page, f"/relays/{relay}/rotate", "relay-rotate-ru-phone-dark")
        await page.get_by_role("button", name="Да, сделать новый ключ").click()
        await site.shot(page, "relay-credential-ru-phone-dark")
        await fits(page, 360)
        assert (await credential_on(page)).generation == 2
        await site.see(page, "/conflicts", "conflicts-ru-phone-dark")
        await fits(page, 360)
        for name, number in found.items():
            await site.see(page, f"/conflicts/{number}", f"conflict-{name}-ru-phone-dark")
            await fits(page, 360)
        await page.fill("#note", "12,50 балла начислено вручную")
        await page.get_by_role("button", name="Решено").click()
        await expect(page.get_by_role("status")).to_have_text(f"Расхождение {found['earn']} решено.")


async def test_a_partners_people_read_their_own_conflicts_without_card_and_account(site: Site) -> None:
    relay = await given(site, 1, "mill-relay")
    found = await some_conflicts(site, relay)
    async with site.page(Role.PARTNER, partner_id=1) as page:
        await site.see(page, f"/conflicts/{found['redeem']}", "conflict-partner")
        await expect(page.locator(".deed")).to_contain_text("The programme's office looks at this.")
        text = await page.locator("main").inner_text()
        assert "0015" not in text
        assert "Account" not in text
        await expect(page.locator("form.fields")).to_have_count(0)
        await page.goto(f"{site.url}/relays/{relay}")
        await expect(page.get_by_role("link", name="New key")).to_be_visible()
