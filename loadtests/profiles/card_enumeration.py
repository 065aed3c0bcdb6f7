"""Card enumeration: a stolen terminal walks through card numbers beside honest registers.

The thief comes after a third of the time. What honest registers do from then on stands in rows of its own, with
`during the theft` behind the name, so that their times without and with a thief stand side by side.
"""

from locust import between

from loadtests.users.cashier import Cashier, weighted
from loadtests.users.curve import Curve
from loadtests.users.moments import elapsed_s
from loadtests.users.thief import Thief

_BEGINS_AT = 1 / 3


class HonestRegister(Cashier):
    """A register that knows nothing of the thief."""

    wait_time = between(0.5, 1.5)
    tasks = weighted({Cashier.balance: 6, Cashier.sale: 3, Cashier.redeem: 1})

    def row_label(self) -> str:
        """Say whether the thief is there."""
        return " during the theft" if elapsed_s() >= _BEGINS_AT * self.options.seconds else ""


class StolenTerminal(Thief):
    """One terminal was stolen."""

    fixed_count = 1
    begins_at = _BEGINS_AT


class CardEnumeration(Curve):
    """The same honest registers all the time."""

    points = ((0.0, 0.5), (0.1, 1.0))
