"""What the engines themselves say of the load: where PostgreSQL and Valkey spend their time while 256 registers redeem.

    python -m tests.measurements.engine_statistics [--accounts 100000] [--registers 256] [--seconds 10]

PostgreSQL tells by pg_stat_statements, and by auto_explain for a few of its commits (EXPLAIN with ANALYZE, BUFFERS and
WAL); Valkey by COMMANDSTATS, its latency histogram and its SLOWLOG. Both cost time of their own: rates are below those
of `make bench`. Prints tables and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import redis
from rich.console import Console
from rich.table import Table

from loadtests.generator.load import Load, Work
from loadtests.generator.process import run
from loadtests.generator.target import Target
from loadtests.population import Population
from server.population import programme
from server.population.filling import Plan, fill
from tests.measurements.premises import Premises

_OPTIONS = {
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "pg_stat_statements.track_planning": "on",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_wal": "on",
    "auto_explain.log_timing": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_parameter_max_length": "0",
}
_STATEMENTS = """
SELECT left(regexp_replace(regexp_replace(query, '^(\\s*--[^\\n]*\\n)+', ''), '\\s+', ' ', 'g'), 60) AS statement,
    calls, rows, total_exec_time AS exec_ms, total_plan_time AS plan_ms, wal_bytes, wal_fpi, wal_records,
    shared_blks_hit, shared_blks_read, shared_blks_dirtied
FROM pg_stat_statements WHERE calls > 1 ORDER BY total_exec_time DESC LIMIT 8
"""
_SLOWER_THAN_US = 2_000


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description="Let the engines tell where their time goes.")
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--registers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    load_before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="tillwire-statistics-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        found = measure(folder, options.accounts, options.registers, options.seconds) | {"load_before": load_before}
    _show(found)
    print(json.dumps(found))  # noqa: T201


def measure(
    folder: Path, accounts: int, registers: int, seconds: float, explained_share: float = 0.01
) -> dict[str, Any]:
    """Return what the engines say of `seconds` of redeems on warm accounts.

    Timing every row costs more than the row, so only a share of the commits is explained.
    """
    options = {**_OPTIONS, "auto_explain.sample_rate": str(explained_share)}
    premises = Premises(folder, postgres_options=options, settings={"workers": "1"})
    try:
        premises.start_engines()
        asyncio.run(premises.found(registers))
        keys = premises.keys
        plan = Plan(accounts, 6, 0, premises.origin, keys.token_key, keys.seal_key)
        fill(premises.postgres.url, plan, lambda _done: None)
        premises.start_server()
        asyncio.run(premises.until_listening())
        population = Population(
            premises.host, premises.port, registers, programme.TERMINAL_PREFIX, premises.secret, accounts, 0,
            programme.CURRENCY, 6,
        )  # fmt: skip
        target = Target(population, None)
        # Afterwards no account is cold.
        run(target, Load(registers, 0.0, Work.SWEEP))
        _begin(premises)
        outcome = run(target, Load(registers, seconds, Work.REDEEM, warm_up_s=min(1.0, seconds)))
        return {"per_s": round(outcome.approved_per_s), **_told(premises)}
    finally:
        premises.stop()


def _begin(premises: Premises) -> None:
    """Let both engines count from here."""

    async def reset() -> None:
        connection = await asyncpg.connect(premises.postgres.url)
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await connection.execute("SELECT pg_stat_statements_reset()")
        await connection.close()

    asyncio.run(reset())
    with redis.Redis.from_url(premises.valkey.url) as client:
        client.config_set("slowlog-log-slower-than", _SLOWER_THAN_US)
        client.slowlog_reset()
        client.config_resetstat()


def _told(premises: Premises) -> dict[str, Any]:
    rows = asyncio.run(premises.fetch(_STATEMENTS))
    with redis.Redis.from_url(premises.valkey.url, protocol=2) as client:
        commands = client.info("commandstats")
        slow = client.slowlog_get(128)
        histogram = client.execute_command("LATENCY", "HISTOGRAM", "evalsha")
        written = client.info("persistence").get("aof_current_size", 0)
    return {
        "statements": [{key: float(v) if not isinstance(v, str) else v for key, v in row.items()} for row in rows],
        "plans": _plans(premises.folder / "postgresql" / "server.log"),
        "commands": {name.removeprefix("cmdstat_"): values for name, values in commands.items()},
        "slow": {
            "longer_than_us": _SLOWER_THAN_US,
            "count": len(slow),
            "longest_us": max((call["duration"] for call in slow), default=0),
        },
        "evalsha_latency_us": _buckets(histogram),
        "aof_bytes": written,
    }  # fmt: skip


def _buckets(told: Any) -> dict[str, int]:
    """Return how many calls took at most so many microseconds, from what LATENCY HISTOGRAM says of one command."""
    _, of_command = told
    _, _, _, counts = of_command
    return {str(at_most_us): count for at_most_us, count in zip(counts[::2], counts[1::2], strict=True)}


def _plans(log: Path) -> list[dict[str, Any]]:
    """Return the parts of the sampled commits, the longest first: what each took itself, in means of a commit."""
    parts: dict[str, _Part] = {}
    text = log.read_text(encoding="utf-8", errors="replace")
    decoder, commits, at = json.JSONDecoder(), 0, text.find("plan:")
    while at >= 0:
        plan, _ = decoder.raw_decode(text[text.find("{", at) :])
        if "journal_row" in plan.get("Query Text", ""):
            commits += 1
            _add(plan["Plan"], parts)
        at = text.find("plan:", at + 1)
    return [
        {"part": name, "own_us": round(part.us / commits, 1), "rows": round(part.rows / commits, 1),
         "wal_bytes": round(part.wal_bytes / commits), "blocks_hit": round(part.blocks_hit / commits)}
        for name, part in sorted(parts.items(), key=lambda item: -item[1].us)
    ]  # fmt: skip


@dataclass
class _Part:
    us: float = 0.0
    rows: float = 0.0
    wal_bytes: int = 0
    blocks_hit: int = 0


def _add(node: dict[str, Any], parts: dict[str, _Part]) -> float:
    """Add what a node took without its children; return its whole time in microseconds."""
    children = node.get("Plans", [])
    below_us = sum(_add(child, parts) for child in children)
    whole_us = node["Actual Total Time"] * node["Actual Loops"] * 1_000
    if node["Node Type"] == "CTE Scan":
        # Whoever reads a CTE first waits for it, and what it takes stands at its own node already.
        return float(whole_us)
    of = node.get("Relation Name", node.get("CTE Name", ""))
    words = (node["Node Type"], node.get("Operation", ""), of, node.get("Subplan Name", ""))
    part = parts.setdefault(" ".join(word for word in words if word), _Part())
    part.us += max(0.0, whole_us - below_us)
    part.rows += node["Actual Rows"] * node["Actual Loops"]
    part.wal_bytes += node.get("WAL Bytes", 0) - sum(child.get("WAL Bytes", 0) for child in children)
    part.blocks_hit += node["Shared Hit Blocks"] - sum(child["Shared Hit Blocks"] for child in children)
    return float(whole_us)


def _show(found: dict[str, Any]) -> None:
    console = Console(stderr=True, width=150)
    console.print(f"{found['per_s']} redeems a second; load before {found['load_before']}")
    for title in ("statements", "plans"):
        rows = found[title]
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{value:,.0f}" if isinstance(value, float) else str(value) for value in row.values()))
        console.print(table)
    for title in ("commands", "slow", "evalsha_latency_us"):
        console.print(title, found[title])


if __name__ == "__main__":
    main()
