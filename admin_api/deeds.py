"""What operators ask of the ledger, written down before it is asked: the audit log is silent of nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from admin_api.decisions import approved
from admin_api.office import Office
from admin_api.problem import Problem
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from ledger.operator_desk import Decided
from ledger.registry import deeds
from protocol.answers import Answer

_REQUEST_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that is asked of the ledger; the fields are those of an audit entry."""

    action: str
    subject: str
    request_id: bytes
    account: int | None = None
    store_id: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def step(request_id: bytes, *parts: bytes) -> bytes:
    """Return the request id of one step of what is done under `request_id`; the same each time."""
    digest = hashlib.blake2b(request_id, digest_size=_REQUEST_ID_BYTES, person=b"office-step")
    for part in parts:
        digest.update(len(part).to_bytes(2, "big") + part)
    return digest.digest()


async def do(office: Office, actor: Actor, deed: Deed, ask: Callable[[], Awaitable[Decided]]) -> Answer:
    """Write the deed into the audit log, once however often it is repeated, ask the ledger, return its approval.

    Raises Undecided, and a Problem (409) for a decline, which the log notes as well.
    """
    await _note(office, actor, deed, deed.action, deed.detail)
    decided = await ask()
    try:
        return approved(decided)
    except Problem as problem:
        outcome = {"outcome": problem.body.get("outcome")}
        await _note(office, actor, deed, f"{deed.action}.declined", {**deed.detail, **outcome})
        raise


async def _note(office: Office, actor: Actor, deed: Deed, action: str, detail: dict[str, Any]) -> None:
    async with office.registry.writing() as transaction:
        if await deeds.noted_alone(transaction, deed.request_id, action) is None:
            await audited(
                office, actor, transaction, action, deed.subject, account=deed.account, store_id=deed.store_id,
                request_id=deed.request_id, detail=detail,
            )  # fmt: skip
