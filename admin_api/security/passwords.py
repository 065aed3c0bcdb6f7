"""Passwords: hashed by argon2id in threads of their own, so that the event loop lives, and a few at a time."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from admin_api.problem import unavailable

PASSWORD_CHARACTERS_MIN = 12
#: Nobody may make the server hash a book.
PASSWORD_CHARACTERS_MAX = 200
#: Each takes 64 MiB while it runs.
_AT_ONCE_MAX = 2
_WAITING_MAX = 32
_DIFFERENT_CHARACTERS_MIN = 5
_SILLY = frozenset(
    {
        "password1234", "password12345", "password123456", "passwordpassword", "123456789012", "1234567890123",
        "12345678901234567890", "qwertyuiop12", "qwertyuiop123", "qwertyuiopasdf", "qwertyuiop[]", "qwerty123456",
        "letmeinletmein", "iloveyou1234", "administrator", "administrator1", "administrator123", "adminadminadmin",
        "welcome12345", "welcome123456", "changeme1234", "changemechangeme", "tillwire1234", "tillwiretillwire",
        "correcthorsebatterystaple", "correct horse battery staple", "trustno1trustno1", "passw0rd1234",
        "p@ssw0rd1234", "p@ssword1234", "abcdefghijkl", "abcdefghijklmnop", "abcd12345678", "1q2w3e4r5t6y",
        "zaq12wsxcde3", "monkeymonkey", "dragondragon", "football1234", "qazwsxedcrfv",
        "йцукенгшщзхъ", "парольпароль", "пароль123456",  # noqa: RUF001 - the same in Russian
    }
)  # fmt: skip
T = TypeVar("T")


def objection(password: str, email: str) -> str | None:
    """Return in a sentence what is wrong with a password that somebody has chosen, or None."""
    plain = _normal(password).casefold()
    if len(_normal(password)) < PASSWORD_CHARACTERS_MIN:
        return f"a password has at least {PASSWORD_CHARACTERS_MIN} characters"
    if len(password) > PASSWORD_CHARACTERS_MAX:
        return f"a password has at most {PASSWORD_CHARACTERS_MAX} characters"
    address = email.casefold()
    if address in plain or plain in {address, address.partition("@")[0]}:
        return "the e-mail address is no password"
    if plain in _SILLY or len(set(plain)) < _DIFFERENT_CHARACTERS_MIN:
        return "this password is one of the first that everybody tries"
    return None


class Passwords:
    """Hashes and verifies. Both raise a Problem (503) when too many others wait already."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_AT_ONCE_MAX, thread_name_prefix="passwords")
        self._waiting = 0
        self._nobodys: str | None = None

    async def hashed(self, password: str) -> str:
        """Return what is stored of a password."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verified(self, stored: str | None, password: str) -> bool:
        """Return whether it is the password, after the same time also where there is none."""
        if self._nobodys is None:
            self._nobodys = await self.hashed(secrets.token_urlsafe())
        against = stored or self._nobodys
        good = await self._run(lambda: self._verify(against, password))
        return good and stored is not None

    def outdated(self, stored: str) -> bool:
        """Return whether it was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, _normal(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING_MAX:
            raise unavailable("too many people sign in at this moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    """Return the password as it is hashed: the same, however a keyboard composes its letters."""
    return unicodedata.normalize("NFKC", password)
