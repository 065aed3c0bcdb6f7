"""Terminals as operators see and change them; a secret is told once, in the answer to the request that made it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from admin_api.coalition.coalition import Store, seen_partner, visible_store
from admin_api.coalition.terminal_secrets import NewSecret, new_secrets
from admin_api.fields import Asked, BodyId, Told
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import Problem, conflict, forbidden, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from ledger.registry import terminals
from ledger.registry.registry import Row, Transaction
from protocol.codes import Message
from protocol.session import TERMINAL_ID

OperationName = Literal[
    "balance", "redeem", "hold", "capture", "release", "earn", "sale", "refund", "reverse", "status", "activate",
    "block", "replace",
]  # fmt: skip
State = Literal["active", "suspended", "revoked"]
#: What a terminal can be permitted, by name. REVERSE and STATUS it may ask for in any case.
OPERATIONS: dict[str, int] = {name: int(Message[name.upper()]) for name in get_args(OperationName)}
#: What changes whose card it is. The whole programme answers for that, so it is not for a partner to begin with it.
_OF_PROGRAMME = frozenset({OPERATIONS["activate"], OPERATIONS["block"], OPERATIONS["replace"]})
_NAMES = {code: name for name, code in OPERATIONS.items()}
_TERMINALS_OF_A_STORE_MAX = 1_000

Permitted = Annotated[list[OperationName], Field(max_length=64)]
Code = Annotated[str, StringConstraints(pattern=f"^{TERMINAL_ID.pattern}$")]


class Terminal(Told):
    """A cash register, or the store's `relay`; it `works` if it is active and so is everything above it."""

    terminal_id: int
    code: str
    store_id: int
    store: str
    network_id: int
    network: str
    partner_id: int
    permitted: list[str]
    state: State
    works: bool
    revoked_ms: int | None
    relay: bool


class Credentials(Told):
    """By what a terminal signs on. The secret is kept nowhere: write it down now, or rotate it."""

    terminal_id: int
    code: str
    secret: str


class NewTerminal(Asked):
    """A terminal to add: its code, which no other terminal may have or have had, and what it may do."""

    code: Code
    permitted: Permitted


class TerminalOfStore(NewTerminal):
    """A terminal to add to a store that is there."""

    store_id: BodyId


class TerminalChange(Asked):
    """What the terminal may do from now on."""

    permitted: Permitted


class Acted(Told):
    """The terminals of a store that something was done to; revoked ones are left alone."""

    terminals: list[Terminal]


class Rotated(Told):
    """New credentials; the old ones open nothing any more."""

    terminals: list[Credentials]


async def list_terminals(
    office: Office,
    actor: Actor,
    position: Position,
    *,
    partner_id: int | None = None,
    network_id: int | None = None,
    store_id: int | None = None,
    code: str | None = None,
    state: State | None = None,
    relay: bool | None = None,
) -> Page[Terminal]:
    """Return terminals by id, those that pass all filters; `code` is a part of the code. Raises a Problem.

    `relay` wants relays, or everything else.
    """
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        rows = await terminals.find(
            transaction, after=position.number(0), rows_max=position.rows_max,
            partner_id=seen_partner(actor, partner_id), network_id=network_id, store_id=store_id, code=code,
            state=state, relay=relay,
        )  # fmt: skip
    return position.page(rows, _shown, lambda row: (row["terminal_id"],))


async def get_terminal(office: Office, actor: Actor, terminal_id: int) -> Terminal:
    """Return a terminal. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return _shown(await _visible(transaction, actor, terminal_id))


async def add_terminal(office: Office, actor: Actor, asked: TerminalOfStore) -> Credentials:
    """Add a terminal to a store; return its credentials. Raises a Problem."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        store = Store(**await visible_store(transaction, actor, asked.store_id))
        await _check_permitted(transaction, actor, asked.permitted)
        return (await open_terminals(office, actor, transaction, store, [asked], await new_secrets(1)))[0]


async def open_terminals(
    office: Office,
    actor: Actor,
    transaction: Transaction,
    store: Store,
    asked: Iterable[NewTerminal],
    secrets: Iterable[NewSecret],
) -> list[Credentials]:
    """Add terminals to a store in an open transaction; return their credentials."""
    opened = []
    for new, made in zip(asked, secrets, strict=True):
        permitted = [OPERATIONS[name] for name in new.permitted]
        terminal_id = await terminals.add(transaction, store.store_id, new.code, permitted, made.credentials)
        await _audited(office, actor, transaction, "terminal.add", terminal_id, store.partner_id, store.store_id)
        opened.append(Credentials(terminal_id=terminal_id, code=new.code, secret=made.secret))
    return opened


async def change_terminal(office: Office, actor: Actor, terminal_id: int, asked: TerminalChange) -> Terminal:
    """Set what a terminal may do. Raises a Problem."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        before = await _register(transaction, actor, terminal_id)
        await _check_permitted(transaction, actor, asked.permitted)
        if not await terminals.set_permitted(transaction, terminal_id, [OPERATIONS[name] for name in asked.permitted]):
            raise _revoked(before)
        await _audited_row(office, actor, transaction, "terminal.permit", before, {"permitted": asked.permitted})
        return _shown(await _visible(transaction, actor, terminal_id))


async def set_active(office: Office, actor: Actor, terminal_id: int, *, active: bool) -> Terminal:
    """Suspend a terminal, or let it work again. Raises a Problem: 409 for one that is revoked."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        before = await _visible(transaction, actor, terminal_id)
        if not await terminals.set_active(transaction, [terminal_id], active=active):
            raise _revoked(before)
        await _audited_row(office, actor, transaction, _ACTIONS[active], before)
        return _shown(await _visible(transaction, actor, terminal_id))


async def rotate(office: Office, actor: Actor, terminal_id: int) -> Credentials:
    """Give a terminal a new secret. Raises a Problem: 409 for one that is revoked."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        before = await _register(transaction, actor, terminal_id)
        (made,) = await new_secrets(1)
        if not await terminals.renew(transaction, before["code"], made.credentials):
            raise _revoked(before)
        await _audited_row(office, actor, transaction, "terminal.rotate", before)
    return Credentials(terminal_id=terminal_id, code=before["code"], secret=made.secret)


async def revoke(office: Office, actor: Actor, terminal_id: int) -> Terminal:
    """Shut a terminal out for ever. Raises a Problem: 409 if it was before."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        before = await _visible(transaction, actor, terminal_id)
        if not await terminals.revoke(transaction, terminal_id, office.clock.now_ms()):
            raise _revoked(before)
        await _audited_row(office, actor, transaction, "terminal.revoke", before)
        return _shown(await _visible(transaction, actor, terminal_id))


async def set_store_active(office: Office, actor: Actor, store_id: int, *, active: bool) -> Acted:
    """Suspend all terminals of a store, its relay among them, or let them work again. Raises a Problem."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        await visible_store(transaction, actor, store_id)
        changed = await terminals.set_active(transaction, await terminals.lock(transaction, store_id), active=active)
        rows = await _standing(transaction, store_id)
        for row in rows:
            if row["terminal_id"] in changed:
                await _audited_row(office, actor, transaction, _ACTIONS[active], row)
        return Acted(terminals=[_shown(row) for row in rows])


async def rotate_store(office: Office, actor: Actor, store_id: int) -> Rotated:
    """Give all cash registers of a store new secrets; its relay has none. Raises a Problem."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        await visible_store(transaction, actor, store_id)
        rows = [row for row in await _standing(transaction, store_id) if not row["relay"]]
        secrets = await new_secrets(len(rows))
        standing = await terminals.lock(transaction, store_id)
        rotated = []
        for row, made in zip(rows, secrets, strict=True):
            # One that was revoked meanwhile stays so.
            if row["terminal_id"] in standing:
                await terminals.renew(transaction, row["code"], made.credentials)
                await _audited_row(office, actor, transaction, "terminal.rotate", row)
                rotated.append(Credentials(terminal_id=row["terminal_id"], code=row["code"], secret=made.secret))
    return Rotated(terminals=rotated)


_ACTIONS = {True: "terminal.resume", False: "terminal.suspend"}


async def _check_permitted(transaction: Transaction, actor: Actor, asked: Iterable[OperationName]) -> None:
    """Keep a partner's people from letting registers change cards where the programme never let theirs do so."""
    wanted = _OF_PROGRAMME & {OPERATIONS[name] for name in asked}
    if actor.partner_id is None or not wanted:
        return
    beyond = wanted - await terminals.permitted_in(transaction, actor.partner_id)
    if beyond:
        names = ", ".join(sorted(_NAMES[code] for code in beyond))
        raise forbidden(f"no terminal of this partner may {names} yet; the programme's people can permit it")


async def _visible(transaction: Transaction, actor: Actor, terminal_id: int) -> Row:
    rows = await terminals.find(transaction, rows_max=1, terminal_id=terminal_id)
    if not rows or not actor.sees_partner(rows[0]["partner_id"]):
        raise not_found(f"terminal {terminal_id}")
    return rows[0]


async def _register(transaction: Transaction, actor: Actor, terminal_id: int) -> Row:
    """Return a terminal that is no relay: what a relay may do never changes, and it has a key instead of a secret."""
    row = await _visible(transaction, actor, terminal_id)
    if row["relay"]:
        raise conflict(f"terminal {row['code']} is a relay; see /v1/relays/{terminal_id}")
    return row


async def _standing(transaction: Transaction, store_id: int) -> list[Row]:
    """Return the terminals of a store that are not revoked."""
    rows = await terminals.find(transaction, rows_max=_TERMINALS_OF_A_STORE_MAX + 1, store_id=store_id)
    if len(rows) > _TERMINALS_OF_A_STORE_MAX:
        raise conflict(f"the store has more than {_TERMINALS_OF_A_STORE_MAX} terminals; take them one by one")
    return [row for row in rows if row["revoked_ms"] is None]


def _shown(row: Row) -> Terminal:
    permitted = [_NAMES[code] for code in row["permitted"] if code in _NAMES]
    return Terminal(**{**row, "permitted": permitted})


def _revoked(row: Row) -> Problem:
    return conflict(f"terminal {row['code']} is revoked, for ever; add another one")


async def _audited_row(
    office: Office,
    actor: Actor,
    transaction: Transaction,
    action: str,
    row: Row,
    detail: dict[str, object] | None = None,
) -> None:
    where = row["partner_id"], row["store_id"]
    await _audited(office, actor, transaction, action, row["terminal_id"], *where, detail)


async def _audited(
    office: Office,
    actor: Actor,
    transaction: Transaction,
    action: str,
    terminal_id: int,
    partner_id: int,
    store_id: int,
    detail: dict[str, object] | None = None,
) -> None:
    await audited(
        office, actor, transaction, action, f"terminal:{terminal_id}", partner_id=partner_id, store_id=store_id,
        detail=detail,
    )  # fmt: skip
