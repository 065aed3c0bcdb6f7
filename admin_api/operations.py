"""The running installation for operators: how it is, draining it, proving its books."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel

from admin_api.office import Office
from admin_api.problem import forbidden
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission

_DRAINING = "draining"
#: How long a stream lasts: whoever wants more proves again who he is.
_STREAM_S = 300


class WorkerLive(BaseModel):
    """A worker process: `state` is starting, ready, draining, silent or unheard; `down` names what it misses."""

    index: int
    pid: int | None
    state: str
    down: list[str]
    connections: int
    """Open connections of registers."""
    accepting: bool


class PartitionLive(BaseModel):
    """A part of the accounts, as the worker that decides it shows it."""

    number: int
    worker: int | None
    """Who decides it; null when nobody does."""
    standby: bool
    """Whether it is decided without Redis."""
    trouble: str | None
    queued: int
    """Requests that wait to be decided."""
    lag_ms: int
    """Age of the oldest decision that is not in the journal yet."""


class AdminLive(BaseModel):
    """The process that answers this."""

    state: str
    down: list[str]
    restarts: int
    connections: int


class Live(BaseModel):
    """The installation at a moment."""

    at_ms: int
    live: bool
    ready: bool
    state: str
    down: list[str]
    restarts: int
    """How often a worker had to be started again."""
    connections: int
    queued: int
    lag_ms: int
    standby: int
    """How many partitions are decided without Redis."""
    workers: list[WorkerLive]
    partitions: list[PartitionLive]
    admin: AdminLive | None


class Draining(BaseModel):
    """The installation is ending, or has been asked to."""

    state: Literal["draining"] = "draining"


class Proof(BaseModel):
    """A proof of the books; `findings` are counts and sums, or what is wrong, or why it could not be proved."""

    id: str
    state: Literal["none", "running", "clean", "not clean", "failed"]
    done: int
    """Accounts proved."""
    total: int
    findings: dict[str, Any]


async def live_now(office: Office, actor: Actor) -> Live:
    """Return the installation as it is now. Raises Problem."""
    check_reading(actor)
    return _live(office.clock.now_ms(), await office.installation.health())


async def live_forever(office: Office, actor: Actor) -> AsyncGenerator[Live]:
    """Yield the installation about once a second, for some minutes. Raises Problem."""
    check_reading(actor)
    until_s = office.clock.monotonic_s() + _STREAM_S
    async with aclosing(office.installation.events()) as events:
        async for told in events:
            yield _live(office.clock.now_ms(), told)
            if office.clock.monotonic_s() > until_s:
                return


async def drain(office: Office, actor: Actor, request_id: bytes) -> Draining:
    """End the installation in an orderly way. Raises Problem."""
    _check(actor, Permission.OPERATIONS_WRITE)
    async with office.registry.writing() as transaction:
        await audited(office, actor, transaction, "installation.drain", "installation", request_id=request_id)
    # Being asked twice would mean to end at once, with registers in the middle of a request.
    if (await office.installation.health())["state"] != _DRAINING:
        office.installation.drain()
    return Draining()


async def prove(office: Office, actor: Actor, request_id: bytes) -> Proof:
    """Begin to prove the books, unless that is under way; return where it stands. Raises Problem."""
    _check(actor, Permission.OPERATIONS_WRITE)
    async with office.registry.writing() as transaction:
        await audited(office, actor, transaction, "books.verify", "books", request_id=request_id)
    office.proofs.start()
    return Proof(**office.proofs.state())


def proof(office: Office, actor: Actor) -> Proof:
    """Return the proof that is under way, or the last one. Raises Problem."""
    check_reading(actor)
    return Proof(**office.proofs.state())


def check_reading(actor: Actor) -> None:
    """Raise a Problem (403) unless this actor may see how the installation is."""
    _check(actor, Permission.OPERATIONS_READ)


def _check(actor: Actor, permission: Permission) -> None:
    actor.check(permission)
    if actor.partner_id is not None:
        raise forbidden("the installation is not one partner's")


def _live(at_ms: int, told: Mapping[str, Any]) -> Live:
    workers = list(told.get("workers", ()))
    partitions = _partitions(workers)
    admin = told.get("admin")
    return Live(
        at_ms=at_ms,
        live=told["live"],
        ready=told["ready"],
        state=told["state"],
        down=told["down"],
        restarts=told.get("restarts", 0),
        connections=sum(worker["detail"].get("connections", 0) for worker in workers),
        queued=sum(partition.queued for partition in partitions),
        lag_ms=max((partition.lag_ms for partition in partitions), default=0),
        standby=sum(partition.standby for partition in partitions),
        workers=[
            WorkerLive(
                index=worker["index"],
                pid=worker["pid"],
                state=worker["state"],
                down=worker["down"],
                connections=worker["detail"].get("connections", 0),
                accepting=worker["detail"].get("accepting", False),
            )
            for worker in workers
        ],
        partitions=partitions,
        admin=admin
        and AdminLive(
            state=admin["state"],
            down=admin["down"],
            restarts=admin["restarts"],
            connections=admin["detail"].get("connections", 0),
        ),
    )


def _partitions(workers: Iterable[Mapping[str, Any]]) -> list[PartitionLive]:
    """Put together what each worker says of all partitions: who serves one knows best, else who has trouble with it."""
    found: dict[int, PartitionLive] = {}
    for worker in workers:
        for name, shown in worker["detail"].get("partitions", {}).items():
            before = found.get(int(name))
            if before is not None and (before.worker is not None or not (shown["serving"] or shown["trouble"])):
                continue
            found[int(name)] = PartitionLive(
                number=int(name),
                worker=worker["index"] if shown["serving"] else None,
                standby=shown["standby"],
                trouble=shown["trouble"] or None,
                queued=shown["backlog"],
                lag_ms=shown.get("lag_ms", 0),
            )
    return [found[number] for number in sorted(found)]
