"""Saturday noon: every register is busy with one customer after the other."""

from locust import between

from loadtests.users.admin import AdminReader
from loadtests.users.cashier import Cashier, weighted
from loadtests.users.curve import Curve
from loadtests.users.office_user import Dashboard, MembersApp, OperatorsDesk


class BusyRegister(Cashier):
    """A customer every one to three seconds; six in ten only ask, one sale in six is taken back in some way."""

    wait_time = between(1, 3)
    tasks = weighted(
        {
            Cashier.balance: 60,
            Cashier.sale: 20,
            Cashier.redeem: 3,
            Cashier.earn: 2,
            Cashier.hold_and_capture: 10,
            Cashier.cancelled_sale: 4,
            Cashier.goods_come_back: 1,
        }
    )


class Monitoring(AdminReader):
    """One monitor."""

    fixed_count = 1


class Desk(OperatorsDesk):
    """Whatever goes wrong at a register is asked for on the phone."""

    fixed_count = 3


class Wall(Dashboard):
    """One dashboard in the headquarters, one with whoever is on call."""

    fixed_count = 2


class App(MembersApp):
    """Members look at their points in the queue."""

    fixed_count = 10


class SaturdayNoon(Curve):
    """Fills up in the first tenth, stays full, and empties a little at the end."""

    points = ((0.0, 0.2), (0.1, 1.0), (0.9, 1.0), (1.0, 0.7))
