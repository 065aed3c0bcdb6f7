"""The ledger's limits as the settings give them."""

from __future__ import annotations

from ledger.limits import Limits
from server.settings import Settings

_MS = 1000


def partition_count(settings: Settings) -> int:
    """Return the number of partitions: the setting, or one a worker."""
    return settings.partitions or settings.workers


def ledger_limits(settings: Settings) -> Limits:
    """Return the limits of a worker's ledger."""
    return Limits(
        partitions=partition_count(settings),
        queue_requests_max=settings.queue_requests_max,
        queue_wait_max_s=settings.queue_wait_ms_max / _MS,
        batch_requests_max=settings.batch_requests_max,
        uncommitted_entries_max=settings.uncommitted_entries_max,
        attempts_max=settings.redecide_attempts_max,
        loads_max=settings.load_accounts_max,
        busy_retry_after_ms=settings.busy_retry_after_ms,
        card_index_entries_max=settings.token_cache_entries_max,
        redis_timeout_s=settings.redis_timeout_ms / _MS,
        postgres_timeout_s=settings.postgres_timeout_ms / _MS,
        journal_silence_s=settings.postgres_silence_ms / _MS,
        redis_probe_interval_s=settings.redis_probe_ms / _MS,
        redis_steady_s=settings.redis_steady_ms / _MS,
        redis_steady_max_s=settings.redis_steady_ms_max / _MS,
        standby_accounts_max=settings.standby_accounts_max,
        postgres_readers_max=settings.postgres_connections_max,
        settle_interval_s=settings.settle_interval_ms / _MS,
    )
