"""Loopback ports for engines: a free one, or a given one that must be free."""

import socket
import time

from server.engines.child import EngineError
from server.engines.processes import listener_of

LOOPBACK = "127.0.0.1"
# An engine that lost its parent a moment ago still holds its port while it saves.
_GRACE_S = 5.0
_POLL_S = 0.05


class PortTakenError(EngineError):
    """Somebody else listens on the port that an engine was given."""

    def __init__(self, port: int) -> None:
        owner = listener_of(port)
        self.port = port
        super().__init__(f"port {port} is taken" + (f" by {owner}" if owner else ""))


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free(port: int) -> None:
    """Wait a little for the port to become free. Raises PortTakenError."""
    deadline = time.monotonic() + _GRACE_S
    while not is_free(port):
        if time.monotonic() > deadline:
            raise PortTakenError(port)
        time.sleep(_POLL_S)


def is_free(port: int) -> bool:
    """Tell whether the loopback port can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
