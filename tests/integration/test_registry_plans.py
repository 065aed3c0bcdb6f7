"""What operators look up is found through an index, however much has come together in the meantime."""

import json
from collections.abc import Iterator
from typing import Any

from ledger.journal.postgres import Postgres
from ledger.registry.registry import Registry
from ledger.registry.statements import statements

FILL = """
INSERT INTO partner (name) SELECT 'p' || i FROM generate_series(1, 20) i;
INSERT INTO network (partner_id, name, currency) SELECT i, 'n' || i, 'EUR' FROM generate_series(1, 20) i;
INSERT INTO store (network_id, name) SELECT i % 20 + 1, 's' || i FROM generate_series(1, 1000) i;
INSERT INTO terminal (code, store_id, permitted, salt, iterations, stored_key, server_key)
SELECT 't' || i, i % 1000 + 1, '{16}', '', 4096, '', '' FROM generate_series(1, 5000) i;
INSERT INTO account (account_id, state) SELECT i, '' FROM generate_series(1, 10000) i;
INSERT INTO card (token, account_id, kind, masked, status)
SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'), i, 1, 'ean13:', 1 FROM generate_series(1, 10000) i;
INSERT INTO entry (account_id, seq, link, op, request_id, terminal_id, network_id, points, held, owed, balance_after,
    held_after, owed_after, spent, earned, refunded, amount, eligible, target, moves, at_ms, sale_ms, rate_bp, until_ms,
    currency, reference, seal)
SELECT i, 1, 0, CASE WHEN i > 9000 THEN 48 ELSE 20 END, decode(lpad(to_hex(i), 32, '0'), 'hex'), i % 5000, 1, 1, 0, 0,
    1, 0, 0, 0, 1, 0, 1, 1, CASE WHEN i > 5000 THEN decode(lpad(to_hex(i - 5000), 32, '0'), 'hex') END, '', i, i, 0, 0,
    'EUR', '', '' FROM generate_series(1, 10000) i;
INSERT INTO office.audit (at_ms, actor, actor_name, action, subject, account_id, partner_id, request_id)
SELECT i, 'user:' || i % 500, 'A', 'member.look', 'member:' || i, i % 10000, CASE WHEN i % 50 = 0 THEN i % 19 END,
    decode(lpad(to_hex(i), 32, '0'), 'hex') FROM generate_series(1, 30000) i;
INSERT INTO office.adjustment (account_id, points, expiry_day, reason, request_id, state, asked_by, asked_person,
    asked_ms)
SELECT i, 1, 0, '', decode(lpad(to_hex(i), 32, '0'), 'hex'), CASE i WHEN 7 THEN 'waiting' WHEN 8 THEN 'approved'
    ELSE 'done' END, 'a', 'user:' || i, 1 FROM generate_series(1, 10000) i;
INSERT INTO office.merge (source, target, request_out, request_in, state, reason, asked_by, asked_ms)
SELECT i, i + 5000, decode(lpad(to_hex(i), 32, '0'), 'hex'), decode(lpad(to_hex(i), 32, '0'), 'hex'),
    CASE i WHEN 7 THEN 'out' ELSE 'done' END, '', 'a', 1 FROM generate_series(1, 5000) i;
INSERT INTO personal.member (account_id) SELECT i FROM generate_series(1, 10000) i;
INSERT INTO personal.lookup (kind, hash, account_id)
SELECT 1, decode(lpad(to_hex(i), 32, '0'), 'hex'), i FROM generate_series(1, 10000) i;
INSERT INTO personal.change (account_id, at_ms, actor, fields)
SELECT i, 1, 'user:1', '{}' FROM generate_series(1, 10000) i;
INSERT INTO office.member_token (hash, account_id, created_by, created_ms, expires_ms)
SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), i, 'a', 1, i FROM generate_series(1, 10000) i;
ANALYZE;
"""
ID = b"\0" * 14 + b"\x01\x02"
ANY = (None,) * 8
BEGINNING = 2**62
#: A statement and its parameters, as somebody asks for it.
ASKED: list[tuple[str, str, tuple[Any, ...]]] = [
    ("accounts", "head", (7,)),
    ("accounts", "entries", (7, BEGINNING, *ANY[:7], 51)),
    ("accounts", "entries", (7, BEGINNING, 1, 9, 20, 1, 1, ID, "x", 51)),
    ("accounts", "accounts_of_requests", ([ID],)),
    ("accounts", "askers", ([ID],)),
    ("accounts", "store_of_terminal", ([ID],)),
    ("adjustments", "list", (BEGINNING, "waiting", None, 51)),
    ("adjustments", "list", (BEGINNING, None, 7, 51)),
    ("adjustments", "list", (BEGINNING, None, None, 51)),
    ("adjustments", "approved", (9, 100)),
    ("adjustments", "by_request", (ID,)),
    ("audit", "find", (*ANY, BEGINNING, 51)),
    ("audit", "find", (20_000, 20_050, *ANY[:6], BEGINNING, 51)),
    ("audit", "find", (None, None, "user:7", *ANY[:5], BEGINNING, 51)),
    ("audit", "find", (*ANY[:4], 7, *ANY[:3], BEGINNING, 51)),
    ("audit", "find", (*ANY[:5], ID, *ANY[:2], BEGINNING, 51)),
    ("audit", "find", (*ANY[:6], "member:7", None, BEGINNING, 51)),
    ("audit", "find", (*ANY[:7], 7, BEGINNING, 51)),
    ("cards", "by_tokens", ([ID],)),
    ("cards", "of_accounts", ([7],)),
    ("deeds", "noted", (ID, "card.block")),
    ("member_tokens", "by_hash", (b"\0" * 30 + b"\x01\x02", 1)),
    ("member_tokens", "remove_expired", (9, 100)),
    ("member_tokens", "remove_of_account", (7,)),
    ("members", "member", (7,)),
    ("members", "members", ([7, 8],)),
    ("members", "find", ([1], [ID], 51)),
    ("members", "changes", (7, 51)),
    ("members", "erase_changes", (7,)),
    ("members", "erase_lookups", (7,)),
    ("members", "phone_cards", (7,)),
    ("merges", "of_source", (7,)),
    ("merges", "open", (9, 100)),
    ("merges", "is_open_target", (7,)),
    ("terminals", "find", (0, 51, *ANY[:7])),
    ("terminals", "find", (0, 51, None, None, 7, *ANY[:4])),
    ("terminals", "find", (0, 1, None, None, None, 7, *ANY[:3])),
    ("terminals", "lock", (7,)),
]


#: More rows than that looked at in vain for one answer is a search from end to end.
IN_VAIN_MAX = 1_500


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from steps(each)


def searched(plan: dict[str, Any]) -> list[str]:
    """Return the tables of which too much was read in vain."""
    return [
        f"{step['Node Type']} of {step['Relation Name']}"
        for step in steps(plan)
        if step.get("Rows Removed by Filter", 0) * step["Actual Loops"] > IN_VAIN_MAX
    ]


async def test_what_is_looked_up_is_found_without_reading_a_table_from_end_to_end(postgres_url: str) -> None:
    registry = Registry(Postgres(postgres_url), connections_max=1, timeout_s=60.0)
    found = []
    try:
        async with registry.writing() as transaction:
            await transaction.execute(FILL)
        for subject, name, arguments in ASKED:
            async with registry.writing() as transaction:
                sql = f"EXPLAIN (ANALYZE, FORMAT JSON) {statements(subject)[name]}"
                (explained,) = json.loads(await transaction.fetchval(sql, *arguments))
            found += [(f"{subject}.{name}", arguments, each) for each in searched(explained["Plan"])]
    finally:
        await registry.close()
    assert found == []


async def test_a_plan_is_made_for_the_filters_that_are_given(postgres_url: str) -> None:
    """PostgreSQL would make one for all after some calls: the one for a terminal reads all stores."""
    registry = Registry(Postgres(postgres_url), connections_max=1, timeout_s=60.0)
    try:
        async with registry.reading() as transaction:
            assert await transaction.fetchval("SHOW plan_cache_mode") == "force_custom_plan"
    finally:
        await registry.close()
