"""What operators ask of the ledger: the same way to a decision as a register's request, and the same journal."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgpack

from ledger.clock import Clock
from ledger.journal.enrolment import NewCard
from ledger.operations import Operation
from ledger.programme import Programme
from ledger.submission import Refusal, Submission

#: Operators belong to no partner and stand at no terminal; their terms limit nothing.
_NOBODY = 0
_NO_TERMS = (0,) * 9
_FINGERPRINT_BYTES = 8


class Decided(NamedTuple):
    """An answer: its body as registers get it (protocol.answers), durable; `replayed` if it was given before."""

    body: bytes
    replayed: bool


class Undecided(Exception):  # noqa: N818 - it is a state
    """No answer. After UNAVAILABLE the same request id must be asked again; after the others nothing happened."""

    def __init__(self, refusal: Refusal, retry_after_ms: int) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal
        self.retry_after_ms = retry_after_ms


class Accounts(Protocol):
    """What the desk needs of the ledger."""

    @property
    def programme(self) -> Programme:
        """The programme in force."""

    def today(self) -> int:
        """Return the business day, in days since 1970 in the programme's time zone."""

    def submit(self, submission: Submission) -> None:
        """Take a request: by its card, or by its account where it names no card."""


class OperatorDesk:
    """One method for each thing an operator may do to an account.

    Every method takes the 16-byte id of the request: the same id again gets the same answer and no second effect. All
    raise Undecided. `reference` (64 characters) is kept with the entry and holds no personal data.
    """

    def __init__(self, accounts: Accounts, clock: Clock, *, patience_s: float) -> None:
        self._accounts = accounts
        self._clock = clock
        self._patience_s = patience_s

    @property
    def programme(self) -> Programme:
        """The programme in force."""
        return self._accounts.programme

    def today(self) -> int:
        """Return the business day, in days since 1970 in the programme's time zone."""
        return self._accounts.today()

    async def activate(self, request_id: bytes, token: bytes, reference: str = "") -> Decided:
        """Let an issued card begin to work."""
        return await self._ask(Operation.ACTIVATE, request_id, token=token, reference=reference)

    async def block(self, request_id: bytes, token: bytes, reference: str = "") -> Decided:
        """Stop a card; the account and its other cards live on."""
        return await self._ask(Operation.BLOCK, request_id, token=token, reference=reference)

    async def unblock(self, request_id: bytes, token: bytes, reference: str = "") -> Decided:
        """Let a blocked card work again."""
        return await self._ask(Operation.UNBLOCK, request_id, token=token, reference=reference)

    async def replace(self, request_id: bytes, token: bytes, new: NewCard, reference: str = "") -> Decided:
        """Put a new card in the place of an old one."""
        return await self._ask(Operation.REPLACE, request_id, token=token, new=new, reference=reference)

    async def link(self, request_id: bytes, account: int, new: NewCard, reference: str = "") -> Decided:
        """Let one more card, a phone number among them, lead to an account."""
        return await self._ask(Operation.LINK, request_id, account=account, new=new, reference=reference)

    async def unlink(self, request_id: bytes, account: int, token: bytes, reference: str = "") -> Decided:
        """Take a card from an account, so that it leads nowhere and any account may get it; the account lives on.

        The account is named because a repetition must not find the one that has got the card meanwhile.
        """
        return await self._ask(Operation.UNLINK, request_id, account=account, target=token, reference=reference)

    async def adjust(self, request_id: bytes, account: int, points: int, expiry_day: int, reference: str) -> Decided:
        """Give minor points that expire on a day (0: never), or take them; what is not there becomes owed."""
        return await self._ask(
            Operation.ADJUST, request_id, account=account, points=points, expiry_day=expiry_day, reference=reference
        )

    async def release(self, request_id: bytes, account: int, hold_id: bytes, reference: str = "") -> Decided:
        """Free what a hold holds, whoever made it."""
        return await self._ask(Operation.RELEASE, request_id, account=account, target=hold_id, reference=reference)

    async def block_account(self, request_id: bytes, account: int, reference: str = "") -> Decided:
        """Stop an account with all its cards."""
        return await self._ask(Operation.BLOCK_ACCOUNT, request_id, account=account, reference=reference)

    async def unblock_account(self, request_id: bytes, account: int, reference: str = "") -> Decided:
        """Let a blocked account work again."""
        return await self._ask(Operation.UNBLOCK_ACCOUNT, request_id, account=account, reference=reference)

    async def merge_out(self, request_id: bytes, source: int, reference: str = "") -> Decided:
        """Take everything out of an account that is to become part of another one, and close it."""
        return await self._ask(Operation.MERGE_OUT, request_id, account=source, reference=reference)

    async def merge_in(self, request_id: bytes, target: int, out_id: bytes, reference: str = "") -> Decided:
        """Put what the request `out_id` took out of another account into this one: lots, cards, what is owed."""
        return await self._ask(Operation.MERGE_IN, request_id, account=target, target=out_id, reference=reference)

    async def _ask(
        self, op: Operation, request_id: bytes, *, token: bytes = b"", new: NewCard | None = None, **fields: Any
    ) -> Decided:
        waiter = _Waiter()
        account = fields.pop("account", 0)
        submission = Submission(
            op=int(op),
            request_id=request_id,
            token=token,
            terminal_id=_NOBODY,
            partner_id=_NOBODY,
            network_id=_NOBODY,
            fingerprint=_fingerprint(op, account, token, new, fields),
            terms=_NO_TERMS,
            deadline=self._clock.monotonic_s() + self._patience_s,
            reply_to=waiter,
            active_day=self.today(),
            **fields,
        )
        submission.account = account
        if new is not None:
            submission.new_token, submission.new_token_kind = new.token, new.kind
            submission.new_token_masked = new.masked
        self._accounts.submit(submission)
        return await waiter.answered


def _fingerprint(op: int, *asked: Any) -> bytes:
    """Return a hash of what is asked for, so that the same id with something else is told apart."""
    packed = msgpack.packb([int(op), repr(asked)])
    return hashlib.blake2b(packed, digest_size=_FINGERPRINT_BYTES).digest()


class _Waiter:
    """Takes the one answer."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:  # noqa: ARG002 - there is one only
        self._settle(lambda: self.answered.set_result(Decided(body, replayed)))

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:  # noqa: ARG002
        self._settle(lambda: self.answered.set_exception(Undecided(refusal, retry_after_ms)))

    def _settle(self, settle: Callable[[], None]) -> None:
        if not self.answered.done():
            settle()
