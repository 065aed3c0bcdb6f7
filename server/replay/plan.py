"""What a customer does at the till: when she spends points and how many, and what she then earns. Pure integers."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from server.errors import UsageError

ALL_BP = 10_000
_BP_PER_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of the replay; points and money are minor units, and one minor point pays one cent.

    `earn_bp`: basis points of what is left to pay that come in as points. `share_bp`: at most so much of a receipt is
    paid with points. `min_spend`: with less available nothing is spent.
    """

    earn_bp: int = 500
    share_bp: int = 3_000
    min_spend: int = 500

    def spend(self, cents: int, available: int) -> int:
        """Return the points to spend on a basket."""
        if cents <= 0 or available < self.min_spend:
            return 0
        return min(available, cents * self.share_bp // ALL_BP)

    def earn(self, cents: int, spent: int) -> int:
        """Return the points that a basket must earn."""
        return (cents - spent) * self.earn_bp // ALL_BP


def basis_points(percent: str, option: str) -> int:
    """Return a percentage of 0 to 100 with at most two decimals in basis points. Raises UsageError."""
    try:
        exact = Decimal(percent) * _BP_PER_PERCENT
        if 0 <= exact <= ALL_BP and exact == exact.to_integral_value():
            return int(exact)
    except InvalidOperation:
        pass
    raise UsageError(f"{option} takes a percentage of 0 to 100 with at most two decimals, not {percent!r}")
