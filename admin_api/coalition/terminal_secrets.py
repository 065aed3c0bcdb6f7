"""Secrets of terminals: made here, shown once, kept nowhere; what is stored of one logs nobody in."""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

from protocol import scram

_SECRET_BYTES = 24
#: Hashing is slow on purpose, and this many cores may be busy with it; it leaves the interpreter to others meanwhile.
_THREADS_MAX = 2


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret, and what is stored of it."""

    secret: str = field(repr=False)
    credentials: scram.Credentials


def new_secret(iterations: int = scram.ITERATIONS) -> NewSecret:
    """Return a secret for a terminal: 192 random bits in printable ASCII. Takes some 10 ms."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return NewSecret(secret, scram.credentials(secret, os.urandom(scram.SALT_BYTES), iterations))


async def new_secrets(count: int) -> list[NewSecret]:
    """Return so many, made in threads."""
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(_threads(), new_secret) for _ in range(count)))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS_MAX, "secrets")
