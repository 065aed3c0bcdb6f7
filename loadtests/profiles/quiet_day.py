"""A quiet day: few registers, long pauses, a little more at noon and after work."""

from locust import between

from loadtests.users.admin import AdminReader
from loadtests.users.cashier import Cashier, weighted
from loadtests.users.curve import Curve
from loadtests.users.office_user import Dashboard, MembersApp, OperatorsDesk


class QuietRegister(Cashier):
    """A customer now and then."""

    wait_time = between(2, 20)
    tasks = weighted(
        {
            Cashier.balance: 12,
            Cashier.sale: 5,
            Cashier.redeem: 1,
            Cashier.earn: 1,
            Cashier.goods_come_back: 1,
        }
    )


class Monitoring(AdminReader):
    """One monitor."""

    fixed_count = 1


class Desk(OperatorsDesk):
    """One operator answers the phone."""

    fixed_count = 1


class Wall(Dashboard):
    """One dashboard is open all day."""

    fixed_count = 1


class App(MembersApp):
    """A few members look at their points."""

    fixed_count = 2


class QuietDay(Curve):
    """Opening, noon, after work, closing."""

    points = ((0.0, 0.1), (0.15, 0.4), (0.35, 0.8), (0.5, 0.4), (0.75, 1.0), (0.9, 0.5), (1.0, 0.1))
