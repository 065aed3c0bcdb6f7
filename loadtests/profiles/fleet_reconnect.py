"""A fleet reconnects: all registers lose their line, every fourth its power, in the same moment, three times."""

from loadtests.users.curve import Curve
from loadtests.users.fleet import FleetRegister


class FallenRegister(FleetRegister):
    """One of the fleet."""


class FleetReconnect(Curve):
    """All are there before the first cut."""

    points = ((0.0, 0.2), (0.2, 1.0))
