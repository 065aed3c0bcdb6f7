import asyncio
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest

from admin_api.security.permissions import Permission
from ledger.journal import migrate
from ledger.programme import Rules
from tests.rigs.office_rig import EVERYTHING, OfficeRig

HOUR_MS = 3_600_000
PATH = "/v1/networks/1/rules"


async def save(
    rig: OfficeRig, client: httpx.AsyncClient, rules: dict[str, Any], in_ms: int | None = None, note: str = ""
) -> Any:
    valid_from_ms = None if in_ms is None else rig.clock.now_ms() + in_ms
    body = {"rules": rules, "valid_from_ms": valid_from_ms, "note": note}
    answer = await client.post(PATH, json=body, headers=rig.key())
    assert answer.status_code == 201, answer.text
    return answer.json()


async def effective(rig: OfficeRig, there: Callable[[tuple[Rules, ...]], bool]) -> None:
    """Wait until the ledger lives by rules like these."""
    async with asyncio.timeout(10):
        while not there(rig.ledger.programme.networks[1].rules):
            await asyncio.sleep(0.01)


def in_force(rig: OfficeRig) -> Rules:
    return rig.ledger.programme.networks[1].rules_at(rig.clock.now_ms())


async def versions(client: httpx.AsyncClient) -> list[Any]:
    items: list[Any] = (await client.get(f"{PATH}/versions")).json()["items"]
    return items


async def test_new_rules_hold_in_the_ledger_and_the_old_ones_are_kept(rig: OfficeRig) -> None:
    async with rig.client() as client:
        before = (await client.get(PATH)).json()
        assert (before["rules"]["earn_rate_bp"], before["state"], before["made_by"]) == (500, "in_force", "system")
        made = await save(rig, client, {"earn_rate_bp": 700, "slip": ["Left: {available}"]}, note="Autumn")
        assert made["changes"] == [
            {"field": "earn_rate_bp", "before": 500, "after": 700},
            {"field": "slip", "before": [], "after": ["Left: {available}"]},
        ]
        assert (made["saved"]["state"], made["saved"]["note"], made["saved"]["valid_until_ms"]) == (
            "in_force", "Autumn", None,
        )  # fmt: skip
        assert (await client.get(PATH)).json() == made["saved"]
        await effective(rig, lambda rules: len(rules) == 2)
        rules = in_force(rig)
        assert (rules.earn_rate_bp, rules.slip) == (700, ("Left: {available}",))
        assert rig.ledger.programme.networks[1].rules_at(rules.valid_from_ms - 1).earn_rate_bp == 500
        new, old = await versions(client)
        assert (new, old["version"], old["state"]) == (made["saved"], before["version"], "past")
        assert old["valid_until_ms"] == new["valid_from_ms"]
        assert (await client.get(f"{PATH}/versions/{old['version']}")).json() == old


async def test_what_is_left_out_stays_as_it_is_when_the_rules_begin(rig: OfficeRig) -> None:
    async with rig.client() as client:
        await save(rig, client, {"earn_rate_bp": 900}, HOUR_MS)
        later = await save(rig, client, {"redeem_min": 100}, 2 * HOUR_MS)
        now = await save(rig, client, {"redeem_min": 50})
    assert (later["saved"]["rules"]["earn_rate_bp"], later["saved"]["rules"]["redeem_min"]) == (900, 100)
    assert (now["saved"]["rules"]["earn_rate_bp"], now["saved"]["rules"]["redeem_min"]) == (500, 50)
    # What differs is told against what is in force, not against what will be.
    assert [change["field"] for change in later["changes"]] == ["earn_rate_bp", "redeem_min"]


async def test_planned_rules_wait_for_their_moment(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = (await save(rig, client, {"earn_rate_bp": 900}, HOUR_MS))["saved"]
        assert made["state"] == "planned"
        await effective(rig, lambda rules: len(rules) == 2)
        assert in_force(rig).earn_rate_bp == 500
        assert rig.ledger.programme.networks[1].rules_at(made["valid_from_ms"]).earn_rate_bp == 900
        assert (await client.get(PATH)).json()["valid_until_ms"] == made["valid_from_ms"]


async def test_rules_of_the_past_are_not_changed(rig: OfficeRig) -> None:
    async with rig.client() as client:
        body = {"rules": {"earn_rate_bp": 1}, "valid_from_ms": rig.clock.now_ms() - 60_000}
        answer = await client.post(PATH, json=body, headers=rig.key())
        assert (answer.status_code, answer.json()["fields"][0]["where"]) == (422, "valid_from_ms")
        assert len(await versions(client)) == 1


async def test_two_versions_cannot_begin_in_the_same_moment(rig: OfficeRig) -> None:
    body = {"rules": {"earn_rate_bp": 1}, "valid_from_ms": rig.clock.now_ms() + HOUR_MS}
    async with rig.client() as client:
        answers = [await client.post(PATH, json=body, headers=rig.key()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 409]
        assert len(await versions(client)) == 2
        # Once withdrawn, its moment is free again.
        path = f"{PATH}/versions/{answers[0].json()['saved']['version']}/withdraw"
        assert (await client.post(path, headers=rig.key())).status_code == 200
        assert (await client.post(PATH, json=body, headers=rig.key())).status_code == 201


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ({"earn_rate_bp": 1_000_001, "holds_max": 0}, ["earn_rate_bp", "holds_max"]),
        ({"redeem_min": 200, "redeem_max": 100}, ["redeem_max"]),
        ({"redeem_max": 2**53}, ["redeem_max"]),
        ({"day_count_max": 10**30}, ["day_count_max"]),
        ({"hold_default_ms": 100, "hold_max_ms": 10}, ["hold_default_ms"]),
        ({"expiry_at_month_end": True}, ["expiry_at_month_end"]),
        ({"slip": ["{available}", "{nonsense}"]}, ["slip.1"]),
        ({"slip": ["a\u0000b", "\ud800"]}, ["slip.0", "slip.1"]),
        ({"slip": ["x"] * 256}, ["slip"]),
    ],
)
async def test_bad_rules_are_told_field_by_field_and_nothing_is_kept(
    rig: OfficeRig, rules: dict[str, Any], fields: list[str]
) -> None:
    async with rig.client() as client:
        text = json.dumps({"rules": rules})
        answer = await client.post(PATH, content=text, headers={**rig.key(), "content-type": "application/json"})
        assert (answer.status_code, [f["where"] for f in answer.json()["fields"]]) == (422, fields)
        assert all(f["what"] for f in answer.json()["fields"])
        assert len(await versions(client)) == 1


@pytest.mark.parametrize("rules", [{"earn_rate": 5}, {"earn_rate_bp": 5.5}, {"earn_rate_bp": "5"}, {"greeting": 1}])
async def test_what_is_no_rule_is_refused(rig: OfficeRig, rules: dict[str, Any]) -> None:
    async with rig.client() as client:
        assert (await client.post(PATH, json={"rules": rules}, headers=rig.key())).status_code == 422


async def test_a_rollback_is_a_new_version_with_old_content(rig: OfficeRig) -> None:
    async with rig.client() as client:
        (first,) = await versions(client)
        await save(rig, client, {"earn_rate_bp": 700, "slip": ["{spent}"]})
        path = f"{PATH}/versions/{first['version']}/rollback"
        answer = await client.post(path, json={"note": "too much"}, headers=rig.key())
        back = answer.json()["saved"]
        assert (back["rules"], back["copy_of"], back["note"]) == (first["rules"], first["version"], "too much")
        assert [change["field"] for change in answer.json()["changes"]] == ["earn_rate_bp", "slip"]
        assert [v["state"] for v in await versions(client)] == ["in_force", "past", "past"]
        await effective(rig, lambda rules: len(rules) == 3)
        assert in_force(rig).earn_rate_bp == 500
        assert (await client.post(f"{PATH}/versions/99/rollback", json={}, headers=rig.key())).status_code == 404


async def test_only_what_is_not_in_force_yet_is_withdrawn(rig: OfficeRig) -> None:
    async with rig.client() as client:
        planned = (await save(rig, client, {"earn_rate_bp": 900}, HOUR_MS))["saved"]
        soon = (await save(rig, client, {"earn_rate_bp": 800}, 1_500))["saved"]
        first = (await versions(client))[-1]
        path = f"{PATH}/versions/{planned['version']}/withdraw"
        answer = await client.post(path, headers=rig.key())
        assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
        await effective(rig, lambda rules: [r.earn_rate_bp for r in rules] == [500, 800])
        # Withdrawn already; about to come into force, so that workers might have lived by it; in force; none.
        for version in (planned["version"], soon["version"], first["version"]):
            refused = await client.post(f"{PATH}/versions/{version}/withdraw", headers=rig.key())
            assert refused.status_code == 409
        assert (await client.post(f"{PATH}/versions/99/withdraw", headers=rig.key())).status_code == 404
        states = {v["version"]: v["state"] for v in await versions(client)}
        assert states[planned["version"]] == "withdrawn"


async def test_versions_are_paged_newest_first(rig: OfficeRig) -> None:
    async with rig.client() as client:
        for rate in (1, 2, 3):
            await save(rig, client, {"earn_rate_bp": rate}, rate * HOUR_MS)
        page = (await client.get(f"{PATH}/versions", params={"limit": 3})).json()
        rest = (await client.get(f"{PATH}/versions", params={"limit": 3, "cursor": page["next"]})).json()
    rates = [v["rules"]["earn_rate_bp"] for v in [*page["items"], *rest["items"]]]
    assert (rates, rest["next"]) == ([3, 2, 1, 500], None)


async def test_every_change_of_rules_is_audited(rig: OfficeRig) -> None:
    async with rig.client() as client:
        saved = (await save(rig, client, {"earn_rate_bp": 900}, HOUR_MS))["saved"]
        await client.post(f"{PATH}/versions/{saved['version']}/withdraw", headers=rig.key())
        await client.post(f"{PATH}/versions/{saved['version']}/rollback", json={}, headers=rig.key())
        await client.post(PATH, json={"rules": {"share_bp": -1}}, headers=rig.key())
    async with rig.registry.reading() as transaction:
        rows = await transaction.fetch("SELECT action, subject, partner_id FROM office.audit ORDER BY audit_id")
    assert [tuple(row) for row in rows] == [
        ("rules.save", "network:1", 1), ("rules.withdraw", "network:1", 1), ("rules.save", "network:1", 1),
    ]  # fmt: skip


async def test_two_who_save_at_once_both_find_their_version(rig: OfficeRig) -> None:
    async with rig.client() as client:
        made = await asyncio.gather(*(save(rig, client, {"redeem_min": n}, n * HOUR_MS) for n in range(1, 6)))
        assert len({each["saved"]["version"] for each in made}) == 5
        assert len(await versions(client)) == 6


async def test_a_partners_people_see_the_rules_of_their_own_networks_only(rig: OfficeRig) -> None:
    body = {"partner": {"name": "Other"}, "network": {"name": "Others", "currency": "EUR"}}
    async with rig.client() as owner:
        other = (await owner.post("/v1/partners/onboard", json=body, headers=rig.key())).json()["network_id"]
    path = f"/v1/networks/{other}/rules"
    async with rig.client(*EVERYTHING, partner_id=1) as client:
        assert (await client.get(PATH)).status_code == 200
        for refused in (
            await client.get(path),
            await client.get(f"{path}/versions"),
            await client.get(f"{path}/versions/2"),
            await client.post(path, json={"rules": {}}, headers=rig.key()),
            await client.post(f"{path}/preview", json={"example": {"amount": 1}}, headers=rig.key()),
            await client.post(f"{path}/versions/2/rollback", json={}, headers=rig.key()),
            await client.post(f"{path}/versions/2/withdraw", headers=rig.key()),
            # Another network's version is none of this one's.
            await client.get(f"{PATH}/versions/2"),
        ):
            assert refused.status_code == 404
    async with rig.client(Permission.RULES_READ) as client:
        assert (await client.get(PATH)).status_code == 200
        assert (await client.post(PATH, json={"rules": {}}, headers=rig.key())).status_code == 403
        refused = await client.post(f"{PATH}/versions/1/rollback", json={}, headers=rig.key())
        assert refused.status_code == 403


async def test_a_network_without_rules_lives_by_the_defaults_until_others_begin(rig: OfficeRig) -> None:
    async with rig.registry.writing() as transaction:
        await transaction.execute("DELETE FROM rules_version")
        await transaction.execute("DELETE FROM rules")
    async with rig.client() as client:
        bare = (await client.get(PATH)).json()
        assert (bare["version"], bare["rules"]["earn_rate_bp"], bare["state"]) == (None, 0, "in_force")
        await save(rig, client, {"earn_rate_bp": 900}, HOUR_MS)
        # A network's first rules hold since ever, so the planned ones must not be the first.
        await effective(rig, lambda rules: [r.earn_rate_bp for r in rules] == [0, 900])
        assert in_force(rig).earn_rate_bp == 0
        assert (await client.get(PATH)).json()["note"] == "defaults"


async def test_rules_from_before_versions_were_kept_become_versions(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = [each for each in migrate.available() if each.number < 3]
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "available", lambda: earlier)
        await migrate.run(empty_postgres_url)
    connection = await asyncpg.connect(empty_postgres_url)
    try:
        await connection.execute("INSERT INTO partner (name) VALUES ('P')")
        await connection.execute("INSERT INTO network (partner_id, name, currency) VALUES (1, 'N', 'EUR')")
        await connection.execute(
            "INSERT INTO rules (network_id, valid_from_ms, earn_rate_bp) VALUES (1, 0, 300), (1, 5000, 400)"
        )
        await migrate.run(empty_postgres_url)
        rows = await connection.fetch("SELECT *, rules ->> 'earn_rate_bp' AS rate FROM rules_version ORDER BY version")
    finally:
        await connection.close()
    assert [(row["valid_from_ms"], row["rate"], row["note"]) for row in rows] == [
        (0, "300", "before versions were kept"), (5000, "400", "before versions were kept"),
    ]  # fmt: skip


async def test_the_time_zone_is_told_with_a_warning_and_changed_by_its_owner(rig: OfficeRig) -> None:
    path = "/v1/programme/time-zone"
    async with rig.client() as client:
        told = (await client.get(path)).json()
        assert told["time_zone"] == "UTC"
        assert "midnight" in told["warning"]
        assert (await client.put(path, json={"time_zone": "Mars/Olympus"})).status_code == 422
        assert (await client.put(path, json={"time_zone": "Pacific/Auckland"})).json()[
            "time_zone"
        ] == "Pacific/Auckland"
        noon_utc_ms = 20_000 * 86_400_000 + 43_200_000
        async with asyncio.timeout(10):
            while rig.ledger.programme.day(noon_utc_ms) != 20_001:
                await asyncio.sleep(0.01)
    async with rig.client(*EVERYTHING, partner_id=1) as client:
        assert (await client.put(path, json={"time_zone": "UTC"})).status_code == 403
    async with rig.client(Permission.RULES_READ, Permission.RULES_WRITE) as client:
        assert (await client.put(path, json={"time_zone": "UTC"})).status_code == 403
