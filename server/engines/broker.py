"""A real MQTT broker on loopback, for `tillwire up` and tests: the system's Mosquitto, else the wheel `iotcore`.

The folder holds the broker's configuration (mode 0600), `password`, `server.log`, and Mosquitto's stored messages.
iotcore keeps everything in memory and speaks MQTT 5 only: good for trying out. Nothing relies on a broker's memory,
since every request carries an id that makes repeating it harmless.
"""

import base64
import hashlib
import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Literal

import server.engines.iotcore_child
from server.engines.binaries import find_mosquitto, wheel_folder
from server.engines.child import Child, EngineError
from server.engines.keyfile import password_in, write_private
from server.engines.ports import LOOPBACK, free_port, require_free

USER = "tillwire"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.01
_PAYLOAD_BYTES_MAX = 2**20
_INFLIGHT_MAX = 1_000
_QUEUED_MESSAGES_MAX = 100_000
# Mosquitto's own password tool writes this many rounds; the password is random, not a person's.
_HASH_ROUNDS = 101

BrokerKind = Literal["mosquitto", "iotcore"]


class EmbeddedBroker:
    """One MQTT broker. `start` and `stop` may be called again and again; the port stays the same.

    `folder` is created if needed. `port` 0 takes a free one at the first start. `kind` None takes the best there is.
    """

    def __init__(self, folder: Path, port: int = 0, kind: BrokerKind | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.label = "MQTT broker"
        self._choose_port = port == 0
        self._kind = kind
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """URL with user and password. Valid once started."""
        return f"mqtt://{USER}:{password_in(self.folder / 'password')}@{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Pid of the broker. Raises EngineError when it is not running."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the broker runs."""
        return self._child is not None and self._child.alive

    def start(self) -> str:
        """Start the broker and return its URL once it accepts connections. Raises EngineError."""
        if self.alive:
            return self.url
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(5):
            if self._choose_port and self.port == 0:
                self.port = free_port()
            else:
                require_free(self.port)
            child = Child(self._prepare(), self.folder / "server.log", signal.SIGTERM)
            if _wait_ready(child, self.port):
                self._child = child
                return self.url
            if "Address already in use" not in child.log_text():
                break
            if self._choose_port:
                self.port = 0
        raise EngineError(f"the MQTT broker did not start: {child.last_words()} ({child.log_file})")

    def stop(self) -> None:
        """Stop cleanly. Harmless when it is not running."""
        if self._child is not None:
            self._child.end((signal.SIGTERM, _STOP_TIMEOUT_S))
            self._child = None

    def kill(self) -> None:
        """Kill it at once."""
        self._running().kill()
        self._child = None

    def pause(self) -> None:
        """Stop it from running, with its connections open, until `resume`."""
        self._running().signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused broker run on."""
        self._running().signal_tree(signal.SIGCONT)

    def _running(self) -> Child:
        if self._child is None or not self._child.alive:
            raise EngineError("the MQTT broker is not running")
        return self._child

    def _prepare(self) -> list[str]:
        """Write the configuration and return the command."""
        password = password_in(self.folder / "password")
        mosquitto = find_mosquitto() if self._kind != "iotcore" else None
        if mosquitto is not None:
            self.label = mosquitto.label
            write_private(self.folder / "mosquitto.passwords", f"{USER}:{_mosquitto_hash(password)}\n")
            write_private(self.folder / "mosquitto.conf", self._mosquitto_configuration())
            return [str(mosquitto.path), "-c", str(self.folder / "mosquitto.conf")]
        if self._kind == "mosquitto" or wheel_folder("iotcore") is None:
            raise EngineError(
                "there is no MQTT broker: install Mosquitto 2 (apt-get install mosquitto) or the wheel (pip install "
                "iotcore), or set TILLWIRE_MQTT_URL to a running one"
            )
        self.label = "iotcore (wheel; keeps messages in memory only, for trying out)"
        write_private(self.folder / "iotcore.toml", self._iotcore_configuration(password))
        return [sys.executable, server.engines.iotcore_child.__file__, str(self.folder / "iotcore.toml")]

    def _mosquitto_configuration(self) -> str:
        lines = [
            f"listener {self.port} {LOOPBACK}",
            "allow_anonymous false",
            f"password_file {self.folder / 'mosquitto.passwords'}",
            "set_tcp_nodelay true",
            f"max_inflight_messages {_INFLIGHT_MAX}",
            f"max_queued_messages {_QUEUED_MESSAGES_MAX}",
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_interval 5",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
        ]
        if os.geteuid() == 0:
            # As root it would switch to a user that cannot write this folder.
            lines.append("user root")
        return "\n".join(lines) + "\n"

    def _iotcore_configuration(self, password: str) -> str:
        return f"""\
id = 0

[router]
id = 0
max_connections = 1024
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "tillwire"
listen = "{LOOPBACK}:{self.port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {_PAYLOAD_BYTES_MAX}
max_inflight_count = {_INFLIGHT_MAX}

[v5.1.connections.auth]
{USER} = "{password}"
"""


def _wait_ready(child: Child, port: int) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while child.alive:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                child.kill()
                raise EngineError(f"the MQTT broker was not ready within {_START_TIMEOUT_S:.0f} s") from None
            time.sleep(_POLL_S)
        else:
            return True
    return False


def _mosquitto_hash(password: str) -> str:
    """Return a line's hash as `mosquitto_passwd` writes it (`$7$`, PBKDF2 with SHA-512), without password in argv."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    return f"$7${_HASH_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
