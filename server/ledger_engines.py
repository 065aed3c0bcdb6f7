"""What the ledger is built on, from the settings and the keys."""

from __future__ import annotations

from ledger import hot_store
from ledger.journal.postgres import Postgres
from ledger.ledger import Engines
from server.errors import OperatorError
from server.secrets import Secrets
from server.settings import Settings


def ledger_engines(settings: Settings, secrets: Secrets) -> Engines:
    """Return the engines that the settings name; nothing is connected yet. Raises OperatorError when one is missing."""
    if settings.postgres_url is None or settings.redis_url is None:
        raise OperatorError("postgres_url and redis_url must be set")
    redis_url, timeout_s = settings.redis_url.get_secret_value(), settings.redis_timeout_ms / 1000
    return Engines(
        postgres=Postgres(settings.postgres_url.get_secret_value()),
        redis=hot_store.connect(redis_url, timeout_s=timeout_s),
        seal_key=secrets.seal_key,
        personal_key=secrets.personal_key,
    )
