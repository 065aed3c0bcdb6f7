"""Two accounts of one person become one. Each step is written down before the next one, so that any can be the last.

First the row; then the ledger empties and closes the source; then the ledger puts what was there into the target, cards
and all; at last, in one transaction, the people: the target's data stay, the source's are kept in the target's log of
changes, encrypted, and whatever found the source finds the target.
"""

from __future__ import annotations

from functools import partial
from typing import Self

import structlog
from pydantic import BaseModel

from admin_api.accounts.accounts import ReasonText, own_state
from admin_api.deeds import Deed, do, step
from admin_api.fields import Asked
from admin_api.members.members import AccountId, personal_data
from admin_api.office import Office
from admin_api.problem import Problem, conflict, unavailable
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry import members, merges
from ledger.registry.registry import Conflict, Row, Transaction
from ledger.registry.secrecy import Unreadable

log = structlog.get_logger(subject="merges")

_SYSTEM = Actor("system", "system", frozenset())
_GRACE_MS = 30_000
_SWEPT_MAX = 100


class MergeAsked(Asked):
    """The account that is given up, and why."""

    source: AccountId
    reason: ReasonText


class MergeView(BaseModel):
    """A merge: asked, out (the source is empty, the target has not got everything yet), done or declined."""

    merge_id: int
    source: int
    target: int
    state: str
    reason: str
    asked_by: str
    asked_ms: int
    done_ms: int | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return the view of a row of office.merge."""
        return cls(**{name: row[name] for name in cls.model_fields})


async def merge(office: Office, actor: Actor, target: int, asked: MergeAsked, request_id: bytes) -> MergeView:
    """Let the source become part of the target. Repeated, it goes on where it stopped. Raises a Problem (404, 409)."""
    check_reach(actor, Permission.ACCOUNTS_WRITE)
    if asked.source == target:
        raise conflict("an account cannot become part of itself")
    async with office.registry.writing() as transaction:
        row = await merges.of_source(transaction, asked.source)
        if row is None or row["state"] == "declined":
            await _check_ready(transaction, asked.source, target)
            row = await merges.add(
                transaction,
                merges.Asked(
                    asked.source, target, step(request_id, b"out"), step(request_id, b"in"), asked.reason, actor.name,
                    office.clock.now_ms(),
                ),
            )  # fmt: skip
            await audited(
                office, actor, transaction, "account.merge", f"account:{target}", account=target,
                request_id=request_id, detail={"source": asked.source, "reason": asked.reason},
            )  # fmt: skip
    if row["target"] != target:
        raise conflict(f"account {asked.source} is part of account {row['target']}, or about to become so")
    return MergeView.of(await _finish(office, actor, row))


async def _check_ready(transaction: Transaction, source: int, target: int) -> None:
    for account in (source, target):
        own = await own_state(transaction, account)
        if own.state.status:
            raise conflict(f"account {account} is blocked, or part of another one")
    other = await merges.of_source(transaction, target)
    if (other is not None and other["state"] != "declined") or await merges.is_open_target(transaction, source):
        raise conflict("one of the accounts takes part in another merge that has not ended")


async def _finish(office: Office, actor: Actor, row: Row) -> Row:
    if row["state"] == "asked":
        row = await _take_out(office, actor, row)
    if row["state"] == "out":
        row = await _put_in(office, actor, row)
    return row


async def _take_out(office: Office, actor: Actor, row: Row) -> Row:
    source, request_id = row["source"], row["request_out"]
    detail = {"target": row["target"], "reason": row["reason"]}
    deed = Deed("account.merge_out", f"account:{source}", request_id, source, detail=detail)
    try:
        await do(office, actor, deed, partial(office.desk.merge_out, request_id, source, "merge"))
    except Problem as problem:
        if "outcome" in problem.body:
            await _step(office, source, "asked", "declined")
        raise
    return await _step(office, source, "asked", "out")


async def _put_in(office: Office, actor: Actor, row: Row) -> Row:
    source, target, request_id = row["source"], row["target"], row["request_in"]
    detail = {"source": source, "reason": row["reason"]}
    deed = Deed("account.merge_in", f"account:{target}", request_id, target, detail=detail)
    await do(office, actor, deed, partial(office.desk.merge_in, request_id, target, row["request_out"], "merge"))
    async with office.registry.writing() as transaction:
        found = await merges.for_change(transaction, source)
        if found is not None and found["state"] == "out":
            await _join_people(office, actor, transaction, source, target)
            await merges.step(transaction, source, "out", "done", office.clock.now_ms())
        return await _row(transaction, source)


async def _join_people(office: Office, actor: Actor, transaction: Transaction, source: int, target: int) -> None:
    """Let the source's member become the target's, or no more than a line in the target's log of changes."""
    theirs = await members.member_for_change(transaction, source)
    if theirs is None:
        return
    ours = await members.member_for_change(transaction, target)
    data, now_ms = personal_data(office), office.clock.now_ms()
    if theirs["data"] is not None:
        try:
            fields = data.decrypt(source, theirs["data"])
        except Unreadable:
            raise conflict("the source's data were encrypted under another key and cannot be read") from None
        # An account without a member takes the source's; one whose member was erased takes nothing.
        erased = ours is not None and ours["erased_ms"] is not None
        if ours is None or (ours["data"] is None and not erased):
            stored = members.Stored(data.encrypt(target, fields), data.greeting(target, fields))
            await members.add(transaction, target, stored, now_ms)
        if not erased:
            before = data.encrypt_values(target, {"merged_from": source, **fields.told()})
            made = members.Change(now_ms, actor.name, None, ["merged"], before)
            await members.note_change(transaction, target, made)
            await members.move_lookups(transaction, source, target)
        else:
            # Who wanted to be forgotten is the same person.
            await members.erase(transaction, source, now_ms)
    await members.end_tokens(transaction, source)
    await members.remove(transaction, source)
    await audited(
        office, actor, transaction, "member.merge", f"member:{target}", account=target, detail={"source": source}
    )


async def _step(office: Office, source: int, state: str, following: str) -> Row:
    async with office.registry.writing() as transaction:
        await merges.step(transaction, source, state, following)
        return await _row(transaction, source)


async def _row(transaction: Transaction, source: int) -> Row:
    row = await merges.of_source(transaction, source)
    if row is None:
        raise unavailable("the merge was not found again")
    return row


async def finish_merges(office: Office, *, grace_ms: int = _GRACE_MS) -> int:
    """Bring merges to their end that were left in the middle; return how many. To be called now and then.

    Those of the last `grace_ms` are left to whoever is at them; it would do no harm if both did it. Raises JournalDown.
    """
    async with office.registry.reading() as transaction:
        rows = await merges.unfinished(transaction, office.clock.now_ms() - grace_ms, _SWEPT_MAX)
    ended = 0
    for row in rows:
        try:
            await _finish(office, _SYSTEM, row)
        except (Problem, Undecided, Conflict, JournalDown) as error:
            log.warning("merge not ended", source=row["source"], target=row["target"], reason=str(error))
        else:
            ended += 1
    return ended
