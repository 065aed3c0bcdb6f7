"""One part of an import: its rows meet what is known already, and what is new is written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from ledger.greetings import encrypt
from ledger.journal.enrolment import NewCard
from ledger.journal.moving import Head, MovingWriter, NewMember, Person
from ledger.registry.personal import EXTERNAL_ID, EXTERNAL_SOURCE, PersonalData, PersonalFields
from ledger.registry.secrecy import Unreadable
from ledger.states import State
from protocol.codes import Outcome
from server.moving.deciding import Decider, declined
from server.moving.openings import Asked, RequestIds, blocking, linking, opening, reference_of
from server.moving.rows import BadRow, BalanceRow, CardRow, MemberRow
from server.moving.values import POINT, STATUS_NAMES

R = TypeVar("R", MemberRow, CardRow, BalanceRow)
_ISSUED, _ACTIVE, _BLOCKED = 0, 1, 2
_NEVER_DAY = 2**31
#: Numbers for accounts that a dry run pretends to make.
_PRETENDED = 2**46


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all parts of one process work with; `today` in days since 1970."""

    writer: MovingWriter
    decider: Decider
    personal: PersonalData
    personal_key: bytes = field(repr=False)
    ids: RequestIds
    source: str
    today: int
    now_ms: int
    alone: bool
    dry_run: bool


@dataclass(slots=True)
class Sorted(Generic[R]):
    """Rows that came in, rows that were there, rows that were not taken; `asked` is for the owners to decide."""

    imported: list[R] = field(default_factory=list)
    already: list[R] = field(default_factory=list)
    bad: list[tuple[R, BadRow]] = field(default_factory=list)
    asked: list[tuple[R, list[Asked]]] = field(default_factory=list)

    def settle(self) -> None:
        """Sort the rows that waited for a decision by what it was."""
        for row, changes in self.asked:
            reason = declined([change.outcome for change in changes])
            if not reason:
                self.imported.append(row)
            else:
                self.bad.append((row, BadRow("", _said(reason))))
        self.asked.clear()


def _said(reason: str) -> str:
    if reason == "UNDECIDED":
        return "the server that owns the account did not decide it: import the rejected rows again later"
    if reason == Outcome.NOT_PERMITTED.name:
        return "the account has a journal, and this release cannot make this change to it"
    return f"declined by the ledger: {reason}"


class _People:
    """Whose rows these are: accounts that exist, and those that come to exist with this part."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._found: dict[bytes, list[Person]] = {}
        self._hashes: dict[str, bytes] = {}
        self._numbers: list[int] = []
        self.new: dict[int, dict[bytes, int]] = {}
        self.members: list[NewMember] = []
        self.told: list[NewMember] = []

    async def look_up(self, external_ids: set[str], accounts_max: int) -> None:
        shop = self._shop
        self._hashes = {one: shop.personal.external(one, shop.source)[1] for one in external_ids if one}
        self._found = await shop.writer.people(self._hashes.values())
        missing = accounts_max - len(self._found)
        if shop.dry_run:
            self._numbers = list(range(_PRETENDED, _PRETENDED + max(0, missing)))
        else:
            self._numbers = await shop.writer.new_accounts(max(0, missing))

    def known(self, external_id: str) -> Person | None:
        """Return whose an id is. Raises BadRow when several accounts have it."""
        people = self._found.get(self._hashes[external_id], [])
        if len(people) > 1:
            raise BadRow("external_id", f"belongs to {len(people)} accounts", conflict=True)
        return people[0] if people else None

    def account_of(self, external_id: str) -> int | None:
        person = self.known(external_id)
        return None if person is None else person.account

    def add(self, external_id: str, told: PersonalFields | None = None, greeting: str = "") -> int:
        """Make an account to be, of a member or of nobody."""
        account = self._numbers.pop()
        self.new[account] = {}
        if external_id:
            member = self.member(account, told or self._nothing_but(external_id), greeting)
            self.members.append(member)
            self._found[self._hashes[external_id]] = [Person(account, member.data)]
        return account

    def name(self, account: int, known: dict[int, bytes | None], external_id: str) -> None:
        """Let an account be that of a member of whom no id is known. Raises BadRow if it is another's."""
        data = known.get(account)
        told = PersonalFields() if data is None else self.read(account, data)
        if EXTERNAL_ID in told.attributes:
            raise BadRow("external_id", "is not that of the member who has this card", conflict=True)
        attributes = {**told.attributes, **self._nothing_but(external_id).attributes}
        member = self.member(account, replace(told, attributes=attributes), "")
        self.told.append(member)
        known[account] = member.data
        self._found[self._hashes[external_id]] = [Person(account, member.data)]

    def member(self, account: int, told: PersonalFields, greeting: str) -> NewMember:
        shop = self._shop
        spoken = encrypt(shop.personal_key, account, greeting) if greeting else shop.personal.greeting(account, told)
        lookups = list(dict.fromkeys(shop.personal.lookups(told)))
        return NewMember(account, shop.personal.encrypt(account, told), spoken, lookups)

    def read(self, account: int, data: bytes) -> PersonalFields:
        """Return what is known of a member. Raises BadRow."""
        try:
            return self._shop.personal.decrypt(account, data)
        except Unreadable:
            raise BadRow("external_id", "has personal data under another key", conflict=True) from None

    def _nothing_but(self, external_id: str) -> PersonalFields:
        attributes = {EXTERNAL_ID: external_id}
        if self._shop.source:
            attributes[EXTERNAL_SOURCE] = self._shop.source
        return PersonalFields(attributes=attributes)

    async def write(self, journaled: set[int]) -> None:
        """Write accounts that no decision has written, then who their members are."""
        shop = self._shop
        if shop.dry_run:
            return
        states = {a: State(a, tokens=tokens).packed() for a, tokens in self.new.items() if a not in journaled}
        await shop.writer.add_accounts(states)
        await shop.writer.add_members(self.members, shop.now_ms)
        await shop.writer.tell_members(self.told, shop.now_ms)


async def members(shop: Workshop, rows: Sequence[MemberRow]) -> Sorted[MemberRow]:
    """Bring members in."""
    done: Sorted[MemberRow] = Sorted()
    people = _People(shop)
    await people.look_up({row.external_id for row in rows}, len(rows))
    for row in rows:
        try:
            person = people.known(row.external_id)
            if person is None:
                people.add(row.external_id, row.told, row.greeting)
            elif not _tell(people, person, row):
                done.already.append(row)
                continue
            done.imported.append(row)
        except BadRow as bad:
            done.bad.append((row, bad))
    await people.write(set())
    return done


def _tell(people: _People, person: Person, row: MemberRow) -> bool:
    """Add what a row tells of a member who exists; return whether it was news. Raises BadRow."""
    before = PersonalFields() if person.data is None else people.read(person.account, person.data)
    changed = row.told.changed_from(before)
    if not changed:
        return False
    own = {name: value for name, value in before.told().items() if name != "attributes"}
    if own or before.attributes.keys() - {EXTERNAL_ID, EXTERNAL_SOURCE}:
        raise BadRow("external_id", f"is known with other data: {', '.join(changed)}", conflict=True)
    people.told.append(people.member(person.account, row.told, row.greeting))
    return True


async def cards(shop: Workshop, rows: Sequence[CardRow]) -> Sorted[CardRow]:
    """Bring cards in."""
    done: Sorted[CardRow] = Sorted()
    people = _People(shop)
    known = await shop.writer.cards({row.card.token for row in rows})
    await people.look_up({row.external_id for row in rows}, len(rows))
    data = await shop.writer.members({account for account, _ in known.values()})
    coming: dict[int, list[CardRow]] = {}
    for row in rows:
        try:
            there = known.get(row.card.token)
            if there is not None:
                _same_card(people, data, row, *there)
                done.already.append(row)
                continue
            account = people.account_of(row.external_id) if row.external_id else None
            if account is None:
                account = people.add(row.external_id)
            coming.setdefault(account, []).append(row)
            known[row.card.token] = (account, row.card.status)
        except BadRow as bad:
            done.bad.append((row, bad))
    await _take_cards(shop, people, coming, done)
    return done


def _same_card(people: _People, data: dict[int, bytes | None], row: CardRow, account: int, status: int) -> None:
    """Expect that a card that exists is what the row says. Raises BadRow."""
    if row.external_id:
        owner = people.account_of(row.external_id)
        if owner is None:
            people.name(account, data, row.external_id)
        elif owner != account:
            raise BadRow("number", "is a card of another account", conflict=True)
    if status != row.card.status:
        here, told = STATUS_NAMES[status], STATUS_NAMES[row.card.status]
        raise BadRow("status", f"is {told} in the file and {here} here", conflict=True)


async def _take_cards(shop: Workshop, people: _People, coming: dict[int, list[CardRow]], done: Sorted[CardRow]) -> None:
    heads = await shop.writer.heads(coming.keys() - people.new.keys()) if shop.alone or shop.dry_run else {}
    states: dict[int, bytes] = {}
    records: list[tuple[int, NewCard]] = []
    for account, rows in coming.items():
        if account in people.new:
            people.new[account].update({row.card.token: row.card.status for row in rows})
        elif account in heads and heads[account].seq == 0:
            state = State.unpacked(heads[account].state)
            state.tokens.update({row.card.token: row.card.status for row in rows})
            states[account] = state.packed()
        else:
            _link(shop, account, rows, done)
            continue
        records += [(account, row.card) for row in rows]
        done.imported += rows
    changes = [change for _, asked in done.asked for change in asked]
    if shop.alone or shop.dry_run:
        batch = await shop.decider.decide(heads, changes, shop.now_ms)
        done.settle()
    if shop.dry_run:
        return
    await people.write(set())
    await shop.writer.put_states(states)
    await shop.writer.add_cards(records)
    if shop.alone:
        await shop.writer.journal(batch, set())


def _link(shop: Workshop, account: int, rows: Sequence[CardRow], done: Sorted[CardRow]) -> None:
    for row in rows:
        if row.card.status not in (_ACTIVE, _BLOCKED):
            reason = f"is {STATUS_NAMES[row.card.status]}, but an account in use takes active and blocked cards only"
            done.bad.append((row, BadRow("status", reason)))
            continue
        changes = [linking(account, shop.ids.of_card(account, row.card.token, _ACTIVE), row.card, shop.today)]
        if row.card.status == _BLOCKED:
            changes.append(blocking(account, shop.ids.of_card(account, row.card.token, _BLOCKED), row.card, shop.today))
        done.asked.append((row, changes))


async def balances(shop: Workshop, rows: Sequence[BalanceRow], own_ids: AbstractSet[bytes]) -> Sorted[BalanceRow]:
    """Bring balances in; `own_ids` are the request ids of this file so far, those of these rows among them."""
    done: Sorted[BalanceRow] = Sorted()
    people = _People(shop)
    ids = {row.line: shop.ids.of_lot(row) for row in rows}
    journaled = await shop.writer.openings(ids.values())
    known = await shop.writer.cards({row.token for row in rows if row.token})
    await people.look_up({row.external_id for row in rows}, len(rows))
    data = await shop.writer.members({account for account, _ in known.values()})
    wanted: list[tuple[BalanceRow, int]] = []
    for row in rows:
        try:
            if (there := journaled.get(ids[row.line])) is not None:
                _same_points(row, there[1])
                done.already.append(row)
                continue
            account, new = _owner(people, known, data, row)
            if row.points:
                wanted.append((row, account))
            else:
                (done.imported if new else done.already).append(row)
        except BadRow as bad:
            done.bad.append((row, bad))
    await _open_lots(shop, people, wanted, ids, own_ids, done)
    return done


def _same_points(row: BalanceRow, points: int) -> None:
    if points != row.points:
        raise BadRow(
            "points", f"are {_shown(row.points)} in the file and {_shown(points)} in the journal already", conflict=True
        )


def _shown(points: int) -> str:
    return f"{points // POINT}.{points % POINT:02}"


def _owner(
    people: _People, known: dict[bytes, tuple[int, int]], data: dict[int, bytes | None], row: BalanceRow
) -> tuple[int, bool]:
    """Return whose a lot is, and whether the account is new. Raises BadRow."""
    by_card = None
    if row.token:
        there = known.get(row.token)
        if there is None:
            raise BadRow("number", "is no known card: import the cards first")
        by_card = there[0]
    if not row.external_id:
        assert by_card is not None  # noqa: S101 - every row has one of both
        return by_card, False
    account = people.account_of(row.external_id)
    if account is None and by_card is not None:
        people.name(by_card, data, row.external_id)
        return by_card, False
    if account is None:
        return people.add(row.external_id), True
    if by_card not in (None, account):
        raise BadRow("number", "is a card of another account", conflict=True)
    return account, account in people.new


async def _open_lots(
    shop: Workshop,
    people: _People,
    wanted: list[tuple[BalanceRow, int]],
    ids: dict[int, bytes],
    own_ids: AbstractSet[bytes],
    done: Sorted[BalanceRow],
) -> None:
    existing = {account for _, account in wanted} - people.new.keys()
    heads = await shop.writer.heads(existing) if existing else {}
    in_use = [account for account, head in heads.items() if head.seq]
    reference = reference_of(shop.source)
    opened = await shop.writer.opened_lots(in_use, reference) if in_use else {}
    for account in people.new:
        heads[account] = Head(0, 0, State(account).packed())
    for row, account in sorted(wanted, key=lambda one: (one[1], *_soonest(one[0]))):
        others = [one for one in opened.get((account, row.expiry_day), ()) if one not in own_ids]
        if others and not row.lot:
            reason = "has an opening balance of this last day already, told of under another id, card or first day"
            done.bad.append((row, BadRow("external_id", reason, conflict=True)))
            continue
        done.asked.append((row, [opening(account, ids[row.line], row, shop.today, reference)]))
    here: list[tuple[BalanceRow, list[Asked]]] = []
    elsewhere: list[tuple[BalanceRow, list[Asked]]] = []
    for row, changes in done.asked:
        decides_here = shop.alone or shop.dry_run or changes[0].account in people.new
        (here if decides_here else elsewhere).append((row, changes))
    batch = await shop.decider.decide(heads, [change for _, asked in here for change in asked], shop.now_ms)
    done.asked = here
    done.settle()
    done.asked = elsewhere
    if shop.dry_run:
        return
    new = set(people.new)
    # The accounts come first, because members refer to them; of the new ones `journal` writes those with entries.
    await shop.writer.journal(batch, new)
    await people.write(set(batch.accounts) & new)


def _soonest(row: BalanceRow) -> tuple[int, int, str, int]:
    return row.expiry_day or _NEVER_DAY, row.active_day, row.lot, row.line
