"""The HTTP layer in a thread of its own, so that health is told even when the supervisor's loop hangs."""

import socket
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.importer import import_from_string

# Named, not imported: the HTTP layer stands beside the server, and neither knows the other.
APPLICATION = "admin_api.app:create_app"
_STOP_TIMEOUT_S = 5.0


class HttpThread:
    """Serves APPLICATION for `process` (see admin_api/process.py) on a listening socket. A context manager."""

    def __init__(self, process: Any, listening: socket.socket) -> None:
        self._socket = listening
        config = uvicorn.Config(
            import_from_string(APPLICATION)(process),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving and close the socket."""
        self._server.should_exit = True
        self._thread.join(_STOP_TIMEOUT_S)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])
