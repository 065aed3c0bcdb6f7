from dataclasses import asdict

from admin_api.office import OfficeLimits
from server.office_limits import office_limits
from server.settings import Operators, Settings

#: What no installation needs to change.
NO_SETTINGS = {"idempotency_wait_s", "idempotency_takeover_s", "sign_in_failed_s"}


def test_without_settings_the_limits_are_those_of_the_application() -> None:
    assert office_limits(Settings()) == OfficeLimits()


def test_every_limit_but_the_named_ones_is_a_setting() -> None:
    lower = {
        name: field.default - 1_000 if name.endswith("_ms") or "_ms_" in name else field.default - 1
        for name, field in Operators.model_fields.items()
        if type(field.default) is int and name != "admin_port"
    }
    lower["admin_memory_bytes_max"] = 256 * 2**20
    limits, defaults = asdict(office_limits(Settings(**lower))), asdict(OfficeLimits())
    assert {name for name in defaults if limits[name] == defaults[name]} == NO_SETTINGS
