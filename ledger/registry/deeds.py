"""What was done before under a request id: the audit log is written with the deed, so it knows."""

from __future__ import annotations

from ledger.registry.registry import Transaction
from ledger.registry.statements import statements

_LOCK_BYTES = 8


async def noted(transaction: Transaction, request_id: bytes, action: str) -> int | None:
    """Return the account (0: none) of the entry that says that this was done under this request id, if there is one."""
    account: int | None = await transaction.fetchval(statements("deeds")["noted"], request_id, action)
    return account


async def noted_alone(transaction: Transaction, request_id: bytes, action: str) -> int | None:
    """Return the same; whoever asks for the same id waits until this transaction ends."""
    number = int.from_bytes(request_id[:_LOCK_BYTES], "big", signed=True)
    await transaction.execute(statements("deeds")["lock"], number)
    return await noted(transaction, request_id, action)
