from typing import Any

import pytest

from server.console_url import registers_at
from server.settings import Settings


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"listen_host": "127.0.0.1", "listen_port": 7411}, "127.0.0.1:7411"),
        ({"listen_host": "tills.example.com", "listen_port": 7000}, "tills.example.com:7000"),
        ({"listen_host": "::1", "listen_port": 7411}, "[::1]:7411"),
        (
            {"listen_host": "::", "listen_port": 7411, "admin_url": "https://office.example.com"},
            "office.example.com:7411",
        ),
        ({"listen_host": "127.0.0.1", "listen_port": 0}, ""),
    ],
)
def test_people_are_told_where_registers_connect(settings: dict[str, Any], address: str) -> None:
    assert registers_at(Settings(**settings)) == address
