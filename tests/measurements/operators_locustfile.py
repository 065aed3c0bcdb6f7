"""Operators, dashboards and members' apps without any register, for tests.measurements.operators_beside.

`--registers` says how many of them there are; TILLWIRE_TIRELESS=1 takes their pauses away.
"""

import os
from collections.abc import Callable
from typing import Any

from locust import constant

from loadtests.users.curve import Curve
from loadtests.users.office_user import Dashboard, MembersApp, OperatorsDesk

_TIRELESS = os.environ.get("TILLWIRE_TIRELESS") == "1"


def _pause(as_people_do: Callable[[Any], float]) -> Callable[[Any], float]:
    return constant(0) if _TIRELESS else as_people_do


class Desk(OperatorsDesk):
    """Half of them."""

    weight = 10
    wait_time = _pause(OperatorsDesk.wait_time)


class Wall(Dashboard):
    """A fifth."""

    weight = 4
    wait_time = _pause(Dashboard.wait_time)


class App(MembersApp):
    """The others."""

    weight = 6
    wait_time = _pause(MembersApp.wait_time)


class AllAtOnce(Curve):
    """All of them from the first second on."""

    points = ((0.0, 1.0),)
