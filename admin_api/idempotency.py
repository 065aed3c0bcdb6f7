"""A POST that is sent twice is done once: each carries an Idempotency-Key, and its answer is remembered under it.

There are two ways, by what the work changes:

- `once` for work that asks the ledger. The key is claimed in a transaction of its own, the work is done, the answer is
  stored. Whatever dies in between leaves a claim without an answer; a repetition takes it over and does the work again
  with the same request id, by which the ledger knows that it did it. What such work writes to the registry beside that
  must bear being repeated.
- `once_in_registry` for work that writes to the registry alone. Key, work and answer are one transaction, so that
  there is nothing in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

import orjson
from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from admin_api.office import Office
from admin_api.problem import Problem, key_reused, under_way
from admin_api.security.actor import Actor
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry import idempotency
from ledger.registry.registry import Conflict, Row, Transaction
from ledger.registry.secrecy import Cipher, Unreadable, derived_key
from ledger.submission import Refusal

REPLAYED_HEADER = "idempotency-replayed"
_POLL_S = 0.05
# How often whoever works says so, of the silence after which another one takes over.
_KEPT_SHARE = 1 / 5
_REQUEST_ID_BYTES = 16
_FINGERPRINT_BYTES = 16
_SERVER_FAULT = 500
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a POST: what becomes its status and its JSON body. `replayed` if it was given before."""

    status: int
    body: dict[str, Any]
    replayed: bool = False

    @classmethod
    def of(cls, told: BaseModel, status: int = 200) -> Self:
        """Return the answer that tells this."""
        return cls(status, told.model_dump(mode="json"))


Work = Callable[[bytes], Awaitable[Reply]]


class Key(str):
    """An Idempotency-Key with the method and path that it was sent to, which are part of what was asked."""

    __slots__ = ("place",)
    place: str

    def __new__(cls, text: str, place: str = "") -> Self:
        """Return the key; `place` is for example "POST /v1/tokens"."""
        key = super().__new__(cls, text)
        key.place = place
        return key


def _key(
    request: Request,
    idempotency_key: Annotated[
        str,
        Header(
            pattern=r"^[!-~]{1,128}$",
            description="1 to 128 printable ASCII characters, new for each new request. A repetition gets the answer "
            "of the first one and has no effect of its own.",
        ),
    ],
) -> Key:
    return Key(idempotency_key, f"{request.method} {request.url.path}")


IdempotencyKey = Annotated[Key, Depends(_key)]


async def once(office: Office, actor: Actor, key: str, asked: BaseModel | dict[str, Any], work: Work) -> JSONResponse:
    """Do work that asks the ledger, or give the answer that it was given before. Raises Problem."""
    return _response(await replied_once(office, actor, key, asked, work))


async def once_in_registry(
    office: Office, actor: Actor, key: str, asked: BaseModel | dict[str, Any], work: Work
) -> JSONResponse:
    """Do work that writes to the registry alone, or give the answer that it was given before. Raises Problem."""
    return _response(await replied_once_in_registry(office, actor, key, asked, work))


async def replied_once(office: Office, actor: Actor, key: str, asked: BaseModel | dict[str, Any], work: Work) -> Reply:
    """Do what `once` does, for pages."""
    request = _Request(office, actor, key, asked)
    found: Reply | int = await request.waited(request.claimed)
    if isinstance(found, Reply):
        return found
    try:
        async with request.kept(found):
            reply = await work(request.request_id)
    except Exception as error:
        # Only what is known to have had no effect is forgotten. All else is left for a repetition to find out.
        with suppress(JournalDown):
            await (request.forget(found) if _had_no_effect(error) else request.release(found))
        raise
    # The work is done. Should its answer not be stored, then a repetition asks the ledger again and hears the same.
    with suppress(JournalDown):
        await request.finish(found, reply)
    return reply


async def replied_once_in_registry(
    office: Office, actor: Actor, key: str, asked: BaseModel | dict[str, Any], work: Work
) -> Reply:
    """Do what `once_in_registry` does, for pages."""
    request = _Request(office, actor, key, asked)

    async def attempt() -> Reply | None:
        async with office.registry.together() as transaction:
            if not await idempotency.lock(transaction, request.key):
                return None
            reply = await request.remembered(transaction)
            if reply is None:
                claim = await request.claim(transaction)
                reply = await work(request.request_id)
                await idempotency.finish(transaction, request.key, claim, reply.status, request.seal(reply))
            return reply

    return await request.waited(attempt)


def _had_no_effect(error: Exception) -> bool:
    if isinstance(error, Problem):
        return error.status < _SERVER_FAULT
    if isinstance(error, Undecided):
        return error.refusal is not Refusal.UNAVAILABLE
    return isinstance(error, Conflict)


def _response(reply: Reply) -> JSONResponse:
    return JSONResponse(reply.body, reply.status, {REPLAYED_HEADER: "true"} if reply.replayed else None)


class _Request:
    """One request under its key: what is remembered of it, and how."""

    def __init__(self, office: Office, actor: Actor, key: str, asked: BaseModel | dict[str, Any]) -> None:
        self._office = office
        self.key = idempotency.Key(actor.name, str(key))
        self.request_id = self.key.digest(_REQUEST_ID_BYTES)
        fields = asked.model_dump(mode="json") if isinstance(asked, BaseModel) else asked
        # The slower JSON, because it takes whatever a request may hold: numbers of any size, half of a surrogate pair.
        text = json.dumps([getattr(key, "place", ""), fields], sort_keys=True).encode()
        # Keyed, because what was asked may be somebody's phone number.
        secret = derived_key(office.keys.personal_key, b"idempotency fingerprints")
        self._fingerprint = hashlib.blake2b(text, key=secret, digest_size=_FINGERPRINT_BYTES).digest()

    async def waited(self, attempt: Callable[[], Awaitable[_T | None]]) -> _T:
        """Attempt until there is something, or for a moment."""
        clock, limits = self._office.clock, self._office.limits
        until = clock.monotonic_s() + limits.idempotency_wait_s
        while True:
            found = await attempt()
            if found is not None:
                return found
            if clock.monotonic_s() >= until:
                raise under_way("the first request with this Idempotency-Key is still being worked on")
            await asyncio.sleep(_POLL_S)

    async def claimed(self) -> Reply | int | None:
        """Return the remembered answer, or a claim to do the work, or None while another one is at it."""
        async with self._office.registry.writing() as transaction:
            if not await idempotency.lock(transaction, self.key):
                return None
            row = await self._row(transaction)
            if row is not None and row["status"] is not None:
                return self._open(row)
            given_up_ms = self._office.clock.now_ms() - self._office.limits.idempotency_takeover_s * 1_000
            if row is not None and row["claimed_ms"] > given_up_ms:
                return None
            return await self.claim(transaction)

    async def remembered(self, transaction: Transaction) -> Reply | None:
        """Return the remembered answer, if there is one."""
        row = await self._row(transaction)
        return None if row is None or row["status"] is None else self._open(row)

    async def claim(self, transaction: Transaction) -> int:
        """Put the key there for whoever does the work."""
        now_ms = self._office.clock.now_ms()
        return await idempotency.claim(
            transaction, self.key, self._fingerprint, now_ms=now_ms, oldest_ms=self._oldest_ms(now_ms)
        )

    @asynccontextmanager
    async def kept(self, claim: int) -> AsyncIterator[None]:
        """Keep a claim from being taken over for as long as the block takes."""
        keeping = asyncio.create_task(self._keep(claim), name="idempotency key")
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self, claim: int) -> None:
        while True:
            await asyncio.sleep(self._office.limits.idempotency_takeover_s * _KEPT_SHARE)
            with suppress(JournalDown):
                async with self._office.registry.writing() as transaction:
                    await idempotency.keep(transaction, self.key, claim, now_ms=self._office.clock.now_ms())

    async def finish(self, claim: int, reply: Reply) -> None:
        """Remember the answer."""
        async with self._office.registry.writing() as transaction:
            await idempotency.finish(transaction, self.key, claim, reply.status, self.seal(reply))

    async def forget(self, claim: int) -> None:
        """Remember nothing: the key may be used for another attempt."""
        async with self._office.registry.writing() as transaction:
            await idempotency.remove(transaction, self.key, claim)

    async def release(self, claim: int) -> None:
        """Let a repetition begin at once."""
        async with self._office.registry.writing() as transaction:
            await idempotency.release(transaction, self.key, claim)

    def seal(self, reply: Reply) -> bytes:
        """Return the body as it is stored: it may hold a secret that is shown once, or personal data."""
        return self._cipher.encrypt(orjson.dumps(reply.body), self._bound_to)

    async def _row(self, transaction: Transaction) -> Row | None:
        oldest_ms = self._oldest_ms(self._office.clock.now_ms())
        row = await idempotency.find(transaction, self.key, oldest_ms=oldest_ms)
        if row is not None and row["fingerprint"] != self._fingerprint:
            raise key_reused()
        return row

    def _open(self, row: Row) -> Reply:
        try:
            plain = self._cipher.decrypt(row["answer"], self._bound_to)
        except Unreadable:
            raise Problem(
                409, "conflict", "It does not fit what is there", "this was done, but its answer can no longer be read"
            ) from None
        return Reply(row["status"], orjson.loads(plain), replayed=True)

    @property
    def _cipher(self) -> Cipher:
        return Cipher(derived_key(self._office.keys.personal_key, b"idempotency answers"))

    @property
    def _bound_to(self) -> bytes:
        return f"{self.key.actor} {self.key.key}".encode()

    def _oldest_ms(self, now_ms: int) -> int:
        return now_ms - self._office.limits.idempotency_s * 1_000
