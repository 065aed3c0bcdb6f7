"""A chain's opening minute: every register is switched on, connects, signs on and asks for a first balance."""

from locust import between

from loadtests.users.cashier import Cashier, weighted
from loadtests.users.curve import Curve
from loadtests.users.office_user import Dashboard, OperatorsDesk


class OpeningRegister(Cashier):
    """Signs on, tries one balance, and then waits for the first customers."""

    wait_time = between(5, 15)
    tasks = weighted({Cashier.balance: 3, Cashier.sale: 1})

    def on_start(self) -> None:
        """Sign on and ask for the first balance."""
        super().on_start()
        self.balance()


class Desk(OperatorsDesk):
    """The operators come in with everybody else."""

    fixed_count = 2


class Wall(Dashboard):
    """Every dashboard is switched on in the same minute."""

    fixed_count = 4


class OpeningMinute(Curve):
    """Most come in the second quarter of the minute, and after two thirds all are there."""

    points = ((0.0, 0.05), (0.2, 0.25), (0.5, 0.9), (0.65, 1.0))
