"""What operators switch off, or give a new secret, loses its live connections."""

import secrets as random

import pytest

from protocol import scram
from protocol.client import Client
from protocol.codes import Goodbye, Outcome
from tests.rigs.server_rig import SECRET, card
from tests.rigs.site_rig import Site, execute, site, until

__all__ = ["site"]


async def unwanted(client: Client) -> int | None:
    """Return the reason for which the server does not want this register."""
    found = client._register.unwanted
    return None if found is None else int(found[0])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE terminal SET active = false WHERE code = 'T-0'",
        "UPDATE terminal SET revoked_ms = 1, stored_key = '\\x00', server_key = '\\x00' WHERE code = 'T-0'",
        "UPDATE store SET active = false",
        "UPDATE network SET active = false",
        "UPDATE partner SET active = false",
    ],
)
async def test_what_is_switched_off_loses_its_live_connections(site: Site, statement: str) -> None:
    async with site.tills(1) as tills:
        await tills[0].balance(card(1))
        await execute(site, statement)

        async def gone() -> bool:
            return await unwanted(tills[0]) == Goodbye.SUSPENDED

        await until(gone)


async def test_a_terminal_suspended_or_given_a_new_secret_over_http_loses_its_live_connection(site: Site) -> None:
    async with site.client() as client, site.tills(2) as tills:
        for till in tills:
            await till.balance(card(1))
        listed = {t["code"]: t["terminal_id"] for t in (await client.get("/v1/terminals")).json()["items"]}
        suspended = await client.post(f"/v1/terminals/{listed['T-0']}/suspend", headers={"idempotency-key": "1"})
        rotated = await client.post(f"/v1/terminals/{listed['T-1']}/rotate", headers={"idempotency-key": "2"})
        assert (suspended.status_code, rotated.status_code) == (200, 200)

        async def gone() -> bool:
            return [await unwanted(till) for till in tills] == [Goodbye.SUSPENDED, Goodbye.AUTH_FAILED]

        await until(gone)
        async with Client("127.0.0.1", site.port, "T-1", rotated.json()["secret"]) as again:
            assert (await again.balance(card(1))).outcome == Outcome.APPROVED


async def test_a_replaced_secret_ends_the_live_connection_and_the_new_one_signs_on(site: Site) -> None:
    async with site.tills(2) as tills:
        for till in tills:
            await till.balance(card(1))
        fresh = scram.credentials("another-secret-altogether", random.token_bytes(16), scram.ITERATIONS_MIN)
        await execute(
            site,
            "UPDATE terminal SET salt = $1, iterations = $2, stored_key = $3, server_key = $4 WHERE code = 'T-0'",
            fresh.salt, fresh.iterations, fresh.stored_key, fresh.server_key,
        )  # fmt: skip

        async def gone() -> bool:
            return await unwanted(tills[0]) == Goodbye.AUTH_FAILED

        await until(gone)
        assert await unwanted(tills[1]) is None
        async with Client("127.0.0.1", site.port, "T-0", "another-secret-altogether") as again:
            assert (await again.balance(card(1))).outcome == Outcome.APPROVED
        assert SECRET != "another-secret-altogether"
