"""Stores behind the broker: their relays ask headquarters, and send what they sold while they were alone."""

from locust import between

from loadtests.users.cashier import weighted
from loadtests.users.curve import Curve
from loadtests.users.store_relay import StoreRelay


class Store(StoreRelay):
    """A relay with a customer every quarter second to second."""

    wait_time = between(0.25, 1)
    tasks = weighted(
        {
            StoreRelay.balance: 10,
            StoreRelay.sale: 5,
            StoreRelay.redeem: 2,
            StoreRelay.late_earn: 3,
        }
    )


class StoresCurve(Curve):
    """All stores after a fifth of the time."""

    points = ((0.0, 0.2), (0.2, 1.0))
