"""The MQTT broker alone: request frames to a subscriber that echoes them, the floor under every relay.

Nothing of Tillwire is measured here: it is the floor under the profile `stores`.
"""

from locust import between

from loadtests.users.curve import Curve
from loadtests.users.mqtt_register import BrokerEcho


class EchoedRegister(BrokerEcho):
    """A balance every half second to two."""

    wait_time = between(0.5, 2)
    tasks = [BrokerEcho.balance]  # noqa: RUF012 (locust's own way)


class EchoCurve(Curve):
    """All registers after a fifth of the time."""

    points = ((0.0, 0.2), (0.2, 1.0))
