"""What bounds registers' connections is named alike in the limits and in the settings of a server and of a relay."""

import pytest
from pydantic import BaseModel

from server.registers.reception import ConnectionLimits
from server.relay.settings import RelaySettings
from server.settings import Settings


@pytest.mark.parametrize("settings", [Settings, RelaySettings])
def test_every_limit_of_a_connection_is_a_setting_but_two(settings: type[BaseModel]) -> None:
    # `connection_limits` takes what both name; of a limit that no setting names it would silently take the default.
    assert ConnectionLimits.__dataclass_fields__.keys() - settings.model_fields.keys() == {"linger_ms", "tick_ms"}
