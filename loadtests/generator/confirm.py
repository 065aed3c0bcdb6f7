"""Whether the journal has what the registers heard: only such effects count."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg

from loadtests.generator.frames import bounds
from loadtests.generator.outcome import Outcome
from protocol.codes import Message

_SQL = "SELECT op, count(*) AS n FROM entry WHERE request_id BETWEEN $1 AND $2 GROUP BY op"


class Mismatch(Exception):  # noqa: N818 - it is a finding, not an error in this code
    """The registers heard of effects that the journal does not have, or the other way round."""


def confirm(postgres_url: str, outcome: Outcome) -> Counter[str]:
    """Return the effects of a run that stand in the journal, by operation.

    Raises Mismatch unless they are as many as were approved; requests in doubt may stand or not.
    """
    journaled = asyncio.run(_journaled(postgres_url, bytes.fromhex(outcome.prefix)))
    compare(outcome, journaled)
    return journaled


def compare(outcome: Outcome, journaled: Counter[str]) -> None:
    """Compare what was heard with what is journaled."""
    surplus = 0
    for name in sorted({*outcome.effects, *journaled}):
        heard, stands = outcome.effects[name], journaled[name]
        if stands < heard:
            raise Mismatch(f"{heard} {name} were approved, but {stands} stand in the journal")
        surplus += stands - heard
        if surplus > outcome.doubtful:
            raise Mismatch(
                f"{stands} {name} stand in the journal, but {heard} were approved and {outcome.doubtful} are in doubt"
            )


async def _journaled(url: str, prefix: bytes) -> Counter[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(_SQL, *bounds(prefix))
    finally:
        await connection.close()
    return Counter({Message(row["op"]).name: row["n"] for row in rows})
