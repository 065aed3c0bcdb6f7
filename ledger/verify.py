"""Proves that journal, balances and hot store agree, or names the first row that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ledger.audit import AccountAudit, BadRow
from ledger.hot_store import Decided, HotStore
from ledger.journal.scan import Part, Scan, links_at
from ledger.merge_audit import MergeAudit

_ACCOUNTS_AT_ONCE = 2_000
#: A running server journals within milliseconds what Redis already shows, so a difference must last to be one.
_SETTLE_TRIES, _SETTLE_S = 20, 0.1


@dataclass(slots=True)
class Verified:
    """What was looked at; points are minor units.

    Of a partition that is decided without Redis, or that Redis has lost, there is nothing to compare. `merging` are
    points that one account has given up and another one has not taken in yet; they are in no balance.
    """

    accounts: int = 0
    entries: int = 0
    hot_accounts: int = 0
    partitions_not_in_redis: int = 0
    balance: int = 0
    held: int = 0
    owed: int = 0
    merging: int = 0


Progress = Callable[[int, int], None]


async def verify(postgres_url: str, hot_store: HotStore | None, seal_key: bytes, progress: Progress) -> Verified:
    """Recompute every account from its journal; compare with its row, its cards and, where given, with Redis.

    `progress` is told accounts done and accounts in all. Raises BadRow for the first row that is wrong, JournalDown and
    HotStoreDown.
    """
    verified = Verified()
    not_in_redis: set[int] = set()
    merges = MergeAudit()
    scan = await Scan.open(postgres_url)
    try:
        total, partitions = await scan.count(), await scan.partitions()
        async for part in scan.parts(_ACCOUNTS_AT_ONCE):
            audits = await _audit(part, seal_key, verified, merges)
            if hot_store is not None and partitions:
                not_in_redis |= await _compare_hot(postgres_url, hot_store, partitions, audits, verified)
            progress(verified.accounts, total)
    finally:
        await scan.close()
    verified.partitions_not_in_redis = len(not_in_redis)
    verified.merging = merges.finish()
    return verified


async def _audit(part: Part, seal_key: bytes, verified: Verified, merges: MergeAudit) -> dict[int, AccountAudit]:
    audits = {row["account_id"]: AccountAudit(row["account_id"], seal_key) for row in part.accounts}
    async for entry in part.entries:
        audit = audits.get(entry["account_id"])
        if audit is None:
            raise BadRow(entry["account_id"], entry["seq"], "there is no such account")
        audit.apply(entry)
        verified.entries += 1
    for row in part.accounts:
        audit = audits[row["account_id"]]
        audit.check_head(row)
        merges.add(audit)
        verified.accounts += 1
        verified.balance += audit.balance
        verified.held += audit.held
        verified.owed += audit.owed
    return audits


async def _compare_hot(
    postgres_url: str,
    hot_store: HotStore,
    partitions: list[tuple[int, int]],
    audits: dict[int, AccountAudit],
    verified: Verified,
) -> set[int]:
    """Compare the accounts with Redis; return the partitions that it does not have."""
    not_in_redis: set[int] = set()
    for partition, (generation, mark) in enumerate(partitions):
        accounts = [account for account in audits if account % len(partitions) == partition]
        head, copies = await hot_store.states(partition, accounts)
        if head is None or head.generation != generation or head.mark < mark:
            # Redis was emptied, set back or given up: whoever decides the partition knows, and believes none of it.
            not_in_redis.add(partition)
            continue
        ahead: dict[int, tuple[int, int]] = {}
        for account, (link, packed) in copies.items():
            verified.hot_accounts += 1
            state = audits[account].unpacked(packed)
            if state.seq == audits[account].seq:
                audits[account].check_copy(link, state)
            elif state.seq < audits[account].seq:
                raise BadRow(account, state.seq, f"Redis is behind entry {audits[account].seq}")
            else:
                ahead[account] = (state.seq, link)
        await _expect_journaled(postgres_url, ahead)
        _expect_undelivered(await hot_store.undelivered(partition, mark) if ahead else [], ahead, audits)
    return not_in_redis


async def _expect_journaled(postgres_url: str, ahead: dict[int, tuple[int, int]]) -> None:
    """Wait until what Redis shows beside the snapshot is journaled; what is, is taken out of `ahead`."""
    for _ in range(_SETTLE_TRIES):
        if not ahead:
            return
        links = await links_at(postgres_url, {account: seq for account, (seq, _) in ahead.items()})
        for account, (_, link) in list(ahead.items()):
            if links.get(account) == link:
                del ahead[account]
        await asyncio.sleep(_SETTLE_S if ahead else 0)


def _expect_undelivered(
    outbox: list[Decided], ahead: dict[int, tuple[int, int]], audits: dict[int, AccountAudit]
) -> None:
    """Expect the rest to be in the outbox, as after a crash: the next owner journals it before anything else."""
    heads = {account: (audits[account].seq, audits[account].link) for account in ahead}
    for decided in outbox:
        for account, after_seq, after_link, seq, link, *_ in decided.changes:
            if heads.get(account) == (after_seq, after_link):
                heads[account] = (seq, link)
    for account, head in ahead.items():
        if heads[account] != head:
            raise BadRow(account, head[0], "Redis has a history that the journal does not have")
