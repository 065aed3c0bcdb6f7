"""Card enumeration: a stolen terminal walks through card numbers beside honest registers.

The thief comes after a third of the time. What honest registers do from then on stands in rows of its own, with
`during the theft` behind the name, so that their times without and with a thief stand side by side.
"""

from locust import User, between

from loadtests.users.cashier import Cashier
from loadtests.users.curve import Curve
from loadtests.users.moments import elapsed_s
from loadtests.users.thief import Thief

_BEGINS_AT = 1 / 3


class HonestRegister(Cashier):
    """A register that knows nothing of the thief."""

    wait_time = between(0.5, 1.5)
    tasks = {Cashier.balance: 6, Cashier.sale: 3, Cashier.redeem: 1}  # noqa: RUF012 (locust's own way)

    def row_label(self) -> str:
        """Say whether the thief is there."""
        return " during the theft" if elapsed_s() >= _BEGINS_AT * self.options.seconds else ""


class StolenTerminal(Thief):
    """One terminal was stolen."""

    fixed_count = 1


class CardEnumeration(Curve):
    """The same honest registers all the time; the thief joins."""

    def user_classes(self, at: float) -> list[type[User]]:
        """Return the honest ones, and from a third of the time on the thief."""
        return [user for user in super().user_classes(at) if at >= _BEGINS_AT or user is not StolenTerminal]
