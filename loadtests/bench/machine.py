"""On what a run was made: figures without it are worth nothing."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import redis

_CHECKOUT = Path(__file__).parents[2]


@dataclass(slots=True)
class Machine:
    """The machine, what else it did, and the versions of what was measured."""

    cpu_model: str
    cores: int
    memory_gib: float
    kernel: str
    file_system: str
    date: str
    git_commit: str
    python: str
    postgresql: str
    valkey: str
    load_before: float
    load_after: float = 0.0

    @property
    def sentence(self) -> str:
        """Return the machine in a line."""
        return (
            f"{self.cores} cores ({self.cpu_model}), {self.memory_gib:g} GiB, {self.kernel}, {self.file_system}; "
            f"Python {self.python}, PostgreSQL {self.postgresql}, Valkey {self.valkey}"
        )


def look(postgres_url: str, redis_url: str, folder: Path) -> Machine:
    """Describe the machine and the engines that run on it; `folder` is where they keep their data."""
    return Machine(
        cpu_model=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        file_system=_file_system(folder),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=_git_commit(),
        python=platform.python_version(),
        postgresql=asyncio.run(_postgresql(postgres_url)),
        valkey=_valkey(redis_url),
        load_before=load(),
    )


def load() -> float:
    """Return how many processes wanted a processor, on average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _file_system(folder: Path) -> str:
    """Return the type of the file system: what an fsync costs depends on it."""
    try:
        lines = Path("/proc/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return "file system unknown"
    mounts = {fields[1]: fields[2] for fields in (line.split() for line in lines)}
    here = folder.resolve()
    return next((mounts[str(path)] for path in (here, *here.parents) if str(path) in mounts), "file system unknown")


def _git_commit() -> str:
    command = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


async def _postgresql(url: str) -> str:
    connection: Any = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


def _valkey(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        told: Any = client.info("server")
    return str(told.get("valkey_version") or told["redis_version"])
