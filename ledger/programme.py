"""The programme: who takes part (partner, network, store, terminal) and the rules in force, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from ledger.business_day import BusinessDay

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one network from `valid_from_ms` on (milliseconds since 1970, UTC).

    Points are minor units; rates and shares are basis points (10,000 = all).
    """

    valid_from_ms: int
    earn_rate_bp: int = 0
    activation_days: int = 0
    expiry_days: int = 0
    expiry_months: int = 0
    expiry_at_month_end: bool = False
    redeem_min: int = 0
    redeem_max: int = 0
    share_bp: int = 10_000
    day_points_max: int = 0
    day_count_max: int = 0
    terminal_day_points_max: int = 0
    hold_default_ms: int = 900_000
    hold_max_ms: int = 86_400_000
    holds_max: int = 16
    greeting: bool = False
    slip: tuple[str, ...] = ()

    @property
    def terms(self) -> tuple[int, ...]:
        """What the decision needs of the rules, positional as in ledger/lua/request.lua."""
        return (
            self.earn_rate_bp,
            self.redeem_min,
            self.redeem_max,
            self.share_bp,
            self.day_points_max,
            self.day_count_max,
            self.hold_default_ms,
            self.hold_max_ms,
            self.holds_max,
        )

    def earning_days(self, sale_day: int) -> tuple[int, int]:
        """Return first and last day (since 1970) on which points earned on `sale_day` can be spent; last 0 = no end."""
        active = sale_day + self.activation_days
        if not (self.expiry_days or self.expiry_months):
            return active, 0
        last = EPOCH + timedelta(days=sale_day + self.expiry_days)
        last = _add_months(last, self.expiry_months)
        if self.expiry_at_month_end:
            last = _add_months(last.replace(day=1), 1) - timedelta(days=1)
        return active, max(active, (last - EPOCH).days)


def _add_months(day: date, months: int) -> date:
    """Return the same day of a later month, or that month's last day where it is shorter."""
    index = day.month - 1 + months
    year, month = day.year + index // 12, index % 12 + 1
    first_of_next = date(year + month // 12, month % 12 + 1, 1)
    return date(year, month, min(day.day, (first_of_next - timedelta(days=1)).day))


@dataclass(frozen=True, slots=True)
class Network:
    """A chain of one partner; `rules` are sorted by `valid_from_ms`, the first one holds since ever."""

    network_id: int
    partner_id: int
    name: str
    currency: str
    rules: tuple[Rules, ...]

    def rules_at(self, at_ms: int) -> Rules:
        """Return the rules in force at a moment (milliseconds since 1970, UTC)."""
        found = self.rules[0]
        for rules in self.rules:
            if rules.valid_from_ms > at_ms:
                break
            found = rules
        return found


@dataclass(frozen=True, slots=True)
class Terminal:
    """A cash register: its identity, what it may do (operation codes) and its SCRAM credentials (RFC 5802)."""

    terminal_id: int
    code: str
    network_id: int
    store_id: int
    permitted: frozenset[int]
    active: bool
    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Programme:
    """A consistent snapshot of all networks; `version` grows with every change."""

    version: int
    networks: dict[int, Network]
    days: BusinessDay

    def day(self, at_ms: int) -> int:
        """Return the business day (days since 1970 in the programme's time zone) of a moment."""
        return self.days.day(at_ms)

    @classmethod
    def empty(cls) -> Programme:
        """Return the programme before anything was loaded."""
        return cls(0, {}, BusinessDay(ZoneInfo("UTC")))
