"""The engines of `up` and `engines`: started unless a setting names them, under one folder that one process owns."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from server.engines.account import make_passable
from server.engines.broker import EmbeddedBroker
from server.engines.child import EngineError
from server.engines.keyfile import write_private
from server.engines.ports import PortTakenError
from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey
from server.settings import Settings

_LOCK_FILE = "lock"
_LOCK_TRIES = 10
_LOCK_POLL_S = 0.02
# For commands that are run beside these engines; mode 0600, because of the passwords.
_URLS_FILE = "urls.json"


class Engine(Protocol):
    """What the three engines have in common."""

    port: int

    @property
    def label(self) -> str:
        """Program and version."""
        ...

    @property
    def pid(self) -> int:
        """Pid of its first process."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        ...

    def start(self) -> str:
        """Start it and return its URL."""
        ...

    def stop(self) -> None:
        """Stop it cleanly."""
        ...


@dataclass(frozen=True)
class Description:
    """One engine for people: what it is, where it listens. Contains no password."""

    name: str
    program: str
    address: str


@dataclass(frozen=True)
class _Slot:
    name: str
    url_setting: str
    port_setting: str
    make: Callable[[Path, int], Engine]


class EmbeddedEngines:
    """Starts the engines that the settings do not name, in order, and stops them in the opposite order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir.absolute()
        self._running: dict[str, Engine] = {}
        self._lock: int | None = None
        memory = settings.embedded_valkey_memory_bytes_max
        self._slots = (
            _Slot("PostgreSQL", "postgres_url", "embedded_postgres_port", EmbeddedPostgres),
            _Slot("Valkey", "redis_url", "embedded_valkey_port", lambda at, port: EmbeddedValkey(at, port, memory)),
            _Slot("MQTT", "mqtt_url", "embedded_broker_port", EmbeddedBroker),
        )

    def start(self) -> Settings:
        """Start what is needed and return the settings with all three URLs. Raises EngineError with nothing running."""
        urls: dict[str, SecretStr] = {}
        try:
            for slot in self._slots:
                if getattr(self._settings, slot.url_setting) is None:
                    urls[slot.url_setting] = SecretStr(self._start_one(slot))
        except BaseException:
            self.stop()
            raise
        if urls:
            write_private(
                self._folder / _URLS_FILE, json.dumps({name: url.get_secret_value() for name, url in urls.items()})
            )
        return self._settings.model_copy(update=urls)

    def stop(self) -> None:
        """Stop what runs. Harmless when nothing does."""
        while self._running:
            self._running.popitem()[1].stop()
        if self._lock is not None:
            (self._folder / _URLS_FILE).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    @property
    def running(self) -> bool:
        """Whether any engine was started here and not stopped."""
        return bool(self._running)

    def pids(self) -> dict[str, int]:
        """Return the pid of each engine that was started here, by the setting of its URL."""
        return {slot.url_setting: self._running[slot.name].pid for slot in self._slots if slot.name in self._running}

    def revive(self) -> list[str]:
        """Start every engine that has died again, on its port and data, and return their names."""
        dead = [(name, engine) for name, engine in self._running.items() if not engine.alive]
        for _, engine in dead:
            engine.start()
        return [name for name, _ in dead]

    def describe(self) -> list[Description]:
        """Return all engines in use, embedded or not."""
        found = []
        for slot in self._slots:
            engine = self._running.get(slot.name)
            url = getattr(self._settings, slot.url_setting)
            if engine is not None:
                found.append(Description(slot.name, engine.label, f"127.0.0.1:{engine.port}"))
            elif url is not None:
                parts = urlsplit(url.get_secret_value())
                address = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
                found.append(Description(slot.name, f"yours ({slot.url_setting})", address))
        return found

    def __enter__(self) -> Self:
        """Return itself; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the engines."""
        self.stop()

    def _start_one(self, slot: _Slot) -> str:
        self._take_folder()
        engine = slot.make(self._folder / slot.name.lower(), getattr(self._settings, slot.port_setting))
        try:
            url = engine.start()
        except PortTakenError as error:
            raise EngineError(
                f"{slot.name} cannot start: {error}; choose another with TILLWIRE_{slot.port_setting.upper()}, or set "
                f"TILLWIRE_{slot.url_setting.upper()} to use a {slot.name} that runs already"
            ) from None
        self._running[slot.name] = engine
        return url

    def _take_folder(self) -> None:
        """Take the folder for this process. The kernel gives it back however the process ends."""
        if self._lock is not None:
            return
        make_passable(self._folder)
        lock = os.open(self._folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock_patiently(lock)
        except BlockingIOError:
            owner = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise EngineError(f"another tillwire (pid {owner or '?'}) uses {self._folder}: stop it first") from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock


def _lock_patiently(lock: int) -> None:
    # A command that looks whether the folder is in use holds the lock for an instant.
    for _ in range(_LOCK_TRIES - 1):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_POLL_S)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def attached(settings: Settings) -> Settings:
    """Return settings whose missing URLs are those of the embedded engines that use `data_dir`, if some run now."""
    folder = settings.data_dir.absolute()
    try:
        lock = os.open(folder / _LOCK_FILE, os.O_RDONLY)
    except OSError:
        return settings
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # It runs.
    else:
        return settings
    finally:
        os.close(lock)
    try:
        urls = json.loads((folder / _URLS_FILE).read_text())
    except (OSError, ValueError):
        return settings  # It is still starting, or belongs to another user.
    missing = {name: SecretStr(url) for name, url in urls.items() if getattr(settings, name, None) is None}
    return settings.model_copy(update=missing)
