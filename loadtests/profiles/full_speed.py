"""Registers without any pause: as fast as one process of locust goes, which is a limit of locust and of no server."""

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
