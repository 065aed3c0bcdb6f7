"""Proves the books with the engines and keys that the settings name: `tillwire verify`, and on demand of operators."""

from __future__ import annotations

from ledger.hot_store import HotStore
from ledger.verify import Progress, Verified, verify


async def prove(
    postgres_url: str, redis_url: str | None, seal_key: bytes, progress: Progress, *, redis_timeout_s: float
) -> Verified:
    """Recompute every account, without a Redis to compare with when there is no URL. Raises what `verify` raises."""
    hot_store = None if redis_url is None else HotStore.at(redis_url, timeout_s=redis_timeout_s)
    try:
        return await verify(postgres_url, hot_store, seal_key, progress)
    finally:
        if hot_store is not None:
            await hot_store.close()
