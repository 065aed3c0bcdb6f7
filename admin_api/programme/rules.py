"""Rules of networks as operators see and change them: every change is a version, checked before it is saved."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr

from admin_api.fields import Asked, Note, Told
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import Problem, conflict, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from ledger.programme import Rules
from ledger.registry import coalition
from ledger.registry import rules as registered
from ledger.registry.registry import Row, Transaction
from ledger.registry.rules import Version
from ledger.rules_check import BadRules

#: Workers hear of a withdrawal a moment later, and must not have lived by what is withdrawn.
_WITHDRAW_BEFORE_MS = 2_000
_YEAR_9999_MS = 253_370_764_800_000
_BEGINNING = 2**63 - 1
_SLIP_LINES_READ_MAX = 1_000


class RulesFields(Asked):
    """Rates and shares are basis points (500 = 5 %), points are minor units; of a limit 0 says that there is none."""

    earn_rate_bp: StrictInt = Field(default=0, description="Points for money.")
    activation_days: StrictInt = Field(default=0, description="Days until earned points can be spent.")
    expiry_days: StrictInt = Field(default=0, description="Days until points expire; 0 and no months: never.")
    expiry_months: StrictInt = Field(default=0, description="Months until they expire, added to the days.")
    expiry_at_month_end: StrictBool = Field(default=False, description="They live on until the end of that month.")
    redeem_min: StrictInt = Field(default=0, description="Least points in one redemption.")
    redeem_max: StrictInt = Field(default=0, description="Most points in one redemption.")
    share_bp: StrictInt = Field(default=10_000, description="Largest share of a receipt that points may pay.")
    day_points_max: StrictInt = Field(default=0, description="Most points that an account spends a day.")
    day_count_max: StrictInt = Field(default=0, description="Most redemptions of an account a day.")
    terminal_day_points_max: StrictInt = Field(default=0, description="Most points that are spent at a terminal a day.")
    hold_default_ms: StrictInt = Field(
        default=900_000, description="How long a hold lasts if the register does not say."
    )
    hold_max_ms: StrictInt = Field(default=86_400_000, description="How long it lasts at most.")
    holds_max: StrictInt = Field(default=16, description="Open holds of an account.")
    greeting: StrictBool = Field(default=False, description="Registers may greet members by name.")
    slip: list[StrictStr] = Field(
        default_factory=list,
        max_length=_SLIP_LINES_READ_MAX,
        description="Lines such as `Balance: {available}`; one that would name nothing is left out.",
    )

    @classmethod
    def of(cls, rules: Rules) -> Self:
        """Return the rules as an answer shows them."""
        fields = asdict(rules)
        del fields["valid_from_ms"]
        return cls(**{**fields, "slip": list(rules.slip)})

    def rules(self, valid_from_ms: int) -> Rules:
        """Return the rules, unchecked."""
        return Rules(**{**self.model_dump(), "slip": tuple(self.slip), "valid_from_ms": valid_from_ms})


class RulesChange(Asked):
    """The fields to change, which mean what they mean in `RulesFields`; what is null or missing stays as it is."""

    earn_rate_bp: StrictInt | None = None
    activation_days: StrictInt | None = None
    expiry_days: StrictInt | None = None
    expiry_months: StrictInt | None = None
    expiry_at_month_end: StrictBool | None = None
    redeem_min: StrictInt | None = None
    redeem_max: StrictInt | None = None
    share_bp: StrictInt | None = None
    day_points_max: StrictInt | None = None
    day_count_max: StrictInt | None = None
    terminal_day_points_max: StrictInt | None = None
    hold_default_ms: StrictInt | None = None
    hold_max_ms: StrictInt | None = None
    holds_max: StrictInt | None = None
    greeting: StrictBool | None = None
    slip: list[StrictStr] | None = Field(default=None, max_length=_SLIP_LINES_READ_MAX)

    def applied(self, before: Rules, valid_from_ms: int) -> Rules:
        """Return other rules with these changes, unchecked."""
        fields: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.slip is not None:
            fields["slip"] = tuple(self.slip)
        return replace(before, **fields, valid_from_ms=valid_from_ms)


class NewRules(Asked):
    """A new version; `valid_from_ms` (since 1970) is now if it is null. What `rules` leaves out is as it is then."""

    rules: RulesChange
    valid_from_ms: StrictInt | None = None
    note: Note = ""


class Rollback(Asked):
    """Why an older version is to hold again."""

    note: Note = ""


class Change(Told):
    """A field that differs from the rules in force."""

    field: str
    before: StrictInt | StrictBool | list[str]
    after: StrictInt | StrictBool | list[str]


class RulesVersion(Told):
    """A version as it was saved. `version` is null for a network that never had rules and lives by the defaults."""

    version: int | None
    network_id: int
    state: Literal["planned", "in_force", "past", "withdrawn"]
    valid_from_ms: int
    valid_until_ms: int | None
    rules: RulesFields
    note: str
    made_ms: int
    made_by: str
    copy_of: int | None
    withdrawn_ms: int | None
    withdrawn_by: str | None


class SavedRules(Told):
    """What was saved, and how it differs from what was in force when it was."""

    saved: RulesVersion
    changes: list[Change]


async def current_rules(office: Office, actor: Actor, network_id: int) -> RulesVersion:
    """Return the version in force. Raises a Problem."""
    actor.check(Permission.RULES_READ)
    now_ms = office.clock.now_ms()
    async with office.registry.reading() as transaction:
        await visible_network(transaction, actor, network_id)
        version, rules = await registered.in_force(transaction, network_id, now_ms)
        if version is None:
            return RulesVersion(
                version=None, network_id=network_id, state="in_force", valid_from_ms=0, valid_until_ms=None,
                rules=RulesFields.of(rules), note="defaults", made_ms=0, made_by="system", copy_of=None,
                withdrawn_ms=None, withdrawn_by=None,
            )  # fmt: skip
        return await _shown(transaction, network_id, version, now_ms)


async def rules_versions(office: Office, actor: Actor, network_id: int, position: Position) -> Page[RulesVersion]:
    """Return all versions, newest first. Raises a Problem."""
    actor.check(Permission.RULES_READ)
    now_ms = office.clock.now_ms()
    async with office.registry.reading() as transaction:
        await visible_network(transaction, actor, network_id)
        in_force, _ = await registered.in_force(transaction, network_id, now_ms)
        rows = await registered.versions(
            transaction, network_id, before=position.number(_BEGINNING), rows_max=position.rows_max
        )
    return position.page(rows, lambda row: _version(network_id, row, in_force, now_ms), lambda row: (row.version,))


async def rules_version(office: Office, actor: Actor, network_id: int, version: int) -> RulesVersion:
    """Return one version. Raises a Problem."""
    actor.check(Permission.RULES_READ)
    async with office.registry.reading() as transaction:
        await visible_network(transaction, actor, network_id)
        return await _shown(transaction, network_id, version, office.clock.now_ms())


async def save_rules(office: Office, actor: Actor, network_id: int, asked: NewRules) -> SavedRules:
    """Save a new version that holds from now or later on. Raises a Problem: 422 with `fields` for bad rules."""
    actor.check(Permission.RULES_WRITE)
    async with office.registry.writing() as transaction:
        network = await _locked_network(transaction, actor, network_id)
        now_ms = office.clock.now_ms()
        valid_from_ms = _valid_from_ms(asked.valid_from_ms, now_ms)
        _, before = await registered.in_force(transaction, network_id, valid_from_ms)
        rules = asked.rules.applied(before, valid_from_ms)
        return await _save(office, actor, transaction, network, rules, asked.note, now_ms)


async def roll_back(office: Office, actor: Actor, network_id: int, version: int, asked: Rollback) -> SavedRules:
    """Let an older version's content hold again from now on, as a new version. Raises a Problem."""
    actor.check(Permission.RULES_WRITE)
    async with office.registry.writing() as transaction:
        network = await _locked_network(transaction, actor, network_id)
        now_ms = office.clock.now_ms()
        found = await _found(transaction, network_id, version)
        rules = replace(found.rules, valid_from_ms=now_ms)
        return await _save(office, actor, transaction, network, rules, asked.note, now_ms, copy_of=version)


async def withdraw_rules(office: Office, actor: Actor, network_id: int, version: int) -> RulesVersion:
    """Take back a version that is not in force yet. Raises a Problem: 409 if it is or was."""
    actor.check(Permission.RULES_WRITE)
    async with office.registry.writing() as transaction:
        network = await _locked_network(transaction, actor, network_id)
        now_ms = office.clock.now_ms()
        found = await _found(transaction, network_id, version)
        in_force, _ = await registered.in_force(transaction, network_id, now_ms)
        if found.withdrawn_ms is not None:
            raise conflict("this version was withdrawn already")
        if version == in_force or found.rules.valid_from_ms < now_ms + _WITHDRAW_BEFORE_MS:
            raise conflict("this version is in force, was, or will be in a moment; save another one instead")
        await registered.withdraw(transaction, network_id, version, now_ms=now_ms, actor=actor.name)
        await audited(
            office, actor, transaction, "rules.withdraw", f"network:{network_id}",
            partner_id=network["partner_id"], detail={"version": version},
        )  # fmt: skip
        return await _shown(transaction, network_id, version, now_ms)


async def visible_network(transaction: Transaction, actor: Actor, network_id: int) -> Row:
    """Return a network that is this actor's business. Raises a Problem (404)."""
    rows = await coalition.networks(transaction, rows_max=1, network_id=network_id)
    if not rows or not actor.sees_partner(rows[0]["partner_id"]):
        raise not_found(f"network {network_id}")
    return rows[0]


def bad_rules(error: BadRules, prefix: str = "") -> Problem:
    """Return 422 that names each fault; `prefix` leads to the rules within the request."""
    return invalid(str(error), *((prefix + fault.field, fault.what) for fault in error.faults))


def changes(before: Rules, after: Rules) -> list[Change]:
    """Return what differs, apart from the moment from which they hold."""
    old, new = RulesFields.of(before).model_dump(), RulesFields.of(after).model_dump()
    return [Change(field=name, before=old[name], after=new[name]) for name in old if old[name] != new[name]]


def _valid_from_ms(asked_ms: int | None, now_ms: int) -> int:
    """Return from when on rules are to hold: an offline sale counts by the rules of its time, so never in the past."""
    if asked_ms is None:
        return now_ms
    if not now_ms <= asked_ms <= _YEAR_9999_MS:
        what = "must be now or later: what was sold before counts by the rules of its time"
        raise invalid(f"valid_from_ms: {what}", ("valid_from_ms", what))
    return asked_ms


async def _locked_network(transaction: Transaction, actor: Actor, network_id: int) -> Row:
    network = await registered.network(transaction, network_id)
    if network is None or not actor.sees_partner(network["partner_id"]):
        raise not_found(f"network {network_id}")
    return network


async def _save(
    office: Office,
    actor: Actor,
    transaction: Transaction,
    network: Row,
    rules: Rules,
    note: str,
    now_ms: int,
    *,
    copy_of: int | None = None,
) -> SavedRules:
    network_id = network["network_id"]
    _, before = await registered.in_force(transaction, network_id, now_ms)
    try:
        version = await registered.add(
            transaction, network_id, rules, note=note, now_ms=now_ms, made_by=actor.name, copy_of=copy_of
        )
    except BadRules as error:
        raise bad_rules(error) from None
    await audited(
        office, actor, transaction, "rules.save", f"network:{network_id}", partner_id=network["partner_id"],
        detail={"version": version, "valid_from_ms": rules.valid_from_ms, "copy_of": copy_of},
    )  # fmt: skip
    saved = await _shown(transaction, network_id, version, now_ms)
    return SavedRules(saved=saved, changes=changes(before, rules))


async def _found(transaction: Transaction, network_id: int, version: int) -> Version:
    rows = await registered.versions(transaction, network_id, before=_BEGINNING, rows_max=1, version=version)
    if not rows:
        raise not_found(f"version {version} of the rules of network {network_id}")
    return rows[0]


async def _shown(transaction: Transaction, network_id: int, version: int, now_ms: int) -> RulesVersion:
    in_force, _ = await registered.in_force(transaction, network_id, now_ms)
    return _version(network_id, await _found(transaction, network_id, version), in_force, now_ms)


def _version(network_id: int, row: Version, in_force: int | None, now_ms: int) -> RulesVersion:
    state: Literal["planned", "in_force", "past", "withdrawn"]
    if row.withdrawn_ms is not None:
        state = "withdrawn"
    elif row.version == in_force:
        state = "in_force"
    else:
        state = "planned" if row.rules.valid_from_ms > now_ms else "past"
    return RulesVersion(
        version=row.version, network_id=network_id, state=state, valid_from_ms=row.rules.valid_from_ms,
        valid_until_ms=row.valid_until_ms, rules=RulesFields.of(row.rules), note=row.note, made_ms=row.made_ms,
        made_by=row.made_by, copy_of=row.copy_of, withdrawn_ms=row.withdrawn_ms, withdrawn_by=row.withdrawn_by,
    )  # fmt: skip
