"""Every bound of the ledger, with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The ledger's limits; the process fills them from its settings."""

    #: Partitions of all accounts of this installation.
    partitions: int = 1
    #: Submissions that may wait in one partition; more are refused as BUSY.
    queue_requests_max: int = 8192
    #: How long the first of them may have waited; while it is longer, new ones are refused as BUSY.
    queue_wait_max_s: float = 0.5
    #: Submissions decided by one script call.
    batch_requests_max: int = 256
    #: Entries decided and not yet committed, and answers that wait for a commit or the journal, before deciding pauses.
    uncommitted_entries_max: int = 4096
    #: Times a submission is decided anew after a veto or lost answer, before its register is told UNAVAILABLE.
    attempts_max: int = 8
    #: Cold accounts loaded from PostgreSQL by one query.
    loads_max: int = 512
    #: What a refused register is asked to wait.
    busy_retry_after_ms: int = 100
    #: Tokens remembered with the account that they lead to.
    card_index_entries_max: int = 2_000_000
    #: Terminals remembered, so that they can sign on while PostgreSQL is away.
    terminals_max: int = 20_000
    #: Greeting names remembered in clear, and for how long.
    greetings_max: int = 10_000
    greeting_age_s: float = 60.0
    #: Time given to one Redis or PostgreSQL call.
    redis_timeout_s: float = 2.0
    postgres_timeout_s: float = 5.0
    #: How often a Redis that was lost is asked whether it is back, and for how long it must answer before it is used
    #: again: at first, and at most, when it is lost again and again.
    redis_probe_interval_s: float = 0.5
    redis_steady_s: float = 1.0
    redis_steady_max_s: float = 60.0
    #: Accounts of a partition that its owner remembers while Redis is away.
    standby_accounts_max: int = 50_000
    #: Silence of PostgreSQL, with something asked of it, after which it counts as away.
    journal_silence_s: float = 2.0
    #: Connections for reading from PostgreSQL (every owned partition has one more for writing).
    postgres_readers_max: int = 8
    #: How often an owner is heard by PostgreSQL, and after which silence it loses its partitions.
    owner_check_s: float = 1.0
    owner_silence_s: float = 10.0
    #: How long an owner that hears nothing from PostgreSQL still answers what only reads.
    lease_s: float = 3.0
    #: How often a partition without an owner is tried, by the worker that it belongs to by plan and by others.
    acquire_interval_s: float = 0.2
    takeover_interval_s: float = 3.0
    #: How long requests in doubt are kept while an owner recovers, before their registers are told UNAVAILABLE.
    recovery_patience_s: float = 1.0
    #: How often programme and owners are looked at.
    refresh_interval_s: float = 0.5
    #: How often due holds and lots are settled, and how many accounts at once.
    settle_interval_s: float = 5.0
    settle_accounts_max: int = 500
