"""Saturday noon: every register is busy with one customer after the other."""

from locust import between

from loadtests.users.admin import AdminReader
from loadtests.users.cashier import Cashier, weighted
from loadtests.users.curve import Curve


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


class SaturdayNoon(Curve):
    """Fills up in the first tenth, stays full, and empties a little at the end."""

    points = ((0.0, 0.2), (0.1, 1.0), (0.9, 1.0), (1.0, 0.7))
