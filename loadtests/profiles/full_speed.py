"""As fast as one process of locust goes: registers without any pause. It finds the limit of locust, not of the server."""

from locust import constant

from loadtests.users.cashier import Cashier, weighted
from loadtests.users.curve import Curve


class TirelessRegister(Cashier):
    """One request after the other."""

    wait_time = constant(0)
    tasks = weighted({Cashier.redeem: 1})


class FullSpeed(Curve):
    """All registers from the first second on."""

    points = ((0.0, 1.0),)
