"""A register of the office rig's only terminal, for tests that need something to have happened."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

from ledger.journal.enrolment import Enrolled
from ledger.operations import Operation
from ledger.programme import Rules
from ledger.submission import Refusal, Submission
from protocol.answers import Answer
from tests.rigs.office_rig import OfficeRig


class _Waiting:
    def __init__(self) -> None:
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        self.body.set_result(body)

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        self.body.set_exception(AssertionError(refusal.name))


class Till:
    def __init__(self, rig: OfficeRig) -> None:
        self._rig = rig

    async def ask(self, op: Operation, card: Enrolled, **fields: Any) -> bytes:
        """Return the id of a request that was approved; `request_id` repeats one."""
        request_id: bytes = fields.pop("request_id", None) or os.urandom(16)
        assert await self._outcome(op, card, request_id, fields) == 0
        return request_id

    async def outcome(self, op: Operation, card: Enrolled, **fields: Any) -> int:
        return await self._outcome(op, card, os.urandom(16), fields)

    async def _outcome(self, op: Operation, card: Enrolled, request_id: bytes, fields: dict[str, Any]) -> int:
        rig, waiting = self._rig, _Waiting()
        given = {"currency": "EUR", "active_day": rig.ledger.today(), **fields}
        rig.ledger.submit(
            Submission(
                op=int(op),
                request_id=request_id,
                token=card.card.token,
                terminal_id=1,
                partner_id=1,
                network_id=1,
                fingerprint=hashlib.blake2b(repr(fields).encode(), digest_size=8).digest(),
                terms=Rules(valid_from_ms=0, earn_rate_bp=500).terms,
                deadline=rig.clock.monotonic_s() + 30.0,
                reply_to=waiting,
                **given,
            )
        )
        return Answer.from_body(await waiting.body).outcome
