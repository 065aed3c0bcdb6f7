"""A real PostgreSQL on loopback from binaries, for `tillwire up` and tests. Data survive any death.

The folder holds `data` (the cluster), `password`, `server.log`. Started by root, the server runs as another user.
"""

import contextlib
import os
import pwd
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from server.engines import account as accounts
from server.engines.binaries import POSTGRES_BUILTIN_LOCALE_MAJOR_MIN, Program, find_postgres
from server.engines.child import Account, Child, EngineError, run_to_end
from server.engines.keyfile import password_in, write_private
from server.engines.ports import LOOPBACK, free_port, require_free
from server.engines.processes import command_of, is_known, is_running

DATABASE = "tillwire"
_START_TIMEOUT_S = 120.0  # Recovery of four gigabytes of WAL after a crash takes its time.
_ORPHANS_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.01
_PID_FILE_STATUS_LINE = 8
_MIB = 1024 * 1024
_BUFFERS_MIN_MIB, _BUFFERS_MAX_MIB = 128, 2048
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

SERVER_OPTIONS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # Socket paths end at 107 bytes, which a deep checkout exceeds.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Every page is written whole to the WAL once after a checkpoint, so the fewer of these the better.
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",  # The wheel knows pglz alone, which costs far more processor time than writing the pages.
    "random_page_cost": "1.1",
    "jit": "off",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """One PostgreSQL server. `start` and `stop` may be called again and again; the port stays the same.

    `folder` is created if needed. `port` 0 takes a free one at the first start. `options` override SERVER_OPTIONS and
    `shared_buffers`, which is a quarter of the memory, from 128 MiB to 2 GiB; what is not used is not taken.
    """

    def __init__(self, folder: Path, port: int = 0, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port
        self._choose_port = port == 0
        self._options = {"shared_buffers": f"{_buffers_mib()}MB", **SERVER_OPTIONS, **(options or {})}
        self._child: Child | None = None
        self._program: Program | None = None

    @property
    def url(self) -> str:
        """URL of the database made for Tillwire. Valid once started."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """URL of any database of this server. Valid once started."""
        return f"postgresql://postgres:{password_in(self.folder / 'password')}@{LOOPBACK}:{self.port}/{database}"

    @property
    def label(self) -> str:
        """Program and version, for people."""
        return self._program.label if self._program else "PostgreSQL"

    @property
    def pid(self) -> int:
        """Pid of the postmaster. Raises EngineError when it is not running."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the postmaster runs."""
        return self._child is not None and self._child.alive

    def start(self) -> str:
        """Start the server, creating the cluster if there is none, and return its URL once it accepts connections.

        Raises EngineError.
        """
        if self.alive:
            return self.url
        self._program = find_postgres()
        account = accounts.unprivileged()
        place = accounts.reachable_folder(self.folder, account)
        data = place / "data"
        account = _owner(data, account)
        program = accounts.runnable(self._program, account)
        if not (data / "PG_VERSION").exists():
            self._create_cluster(program, place, account)
        _require_same_major(data, self._program)
        _settle_pid_file(data)
        give_up = time.monotonic() + _ORPHANS_TIMEOUT_S
        while not self._launch(program, data, account):
            # Backends of a killed server end by themselves within moments; until then the cluster is still in use.
            if time.monotonic() > give_up:
                raise EngineError(f"processes of an earlier PostgreSQL still use {data}: end them")
            time.sleep(0.1)
        return self.url

    def stop(self) -> None:
        """Stop cleanly: sessions are cut, a checkpoint is written. Harmless when it is not running."""
        if self._child is not None:
            # SIGINT is PostgreSQL's fast, SIGQUIT its immediate shutdown.
            self._child.end((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0))
            self._child = None

    def kill(self) -> None:
        """Kill the server and all its backends at once, as a power cut would."""
        self._running().kill()
        self._child = None

    def pause(self) -> None:
        """Stop all its processes from running, with their connections open, until `resume`."""
        self._running().signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let paused processes run on."""
        self._running().signal_tree(signal.SIGCONT)

    def _running(self) -> Child:
        if self._child is None or not self._child.alive:
            raise EngineError("PostgreSQL is not running")
        return self._child

    def _create_cluster(self, program: Path, place: Path, account: Account | None) -> None:
        data, fresh, password_file = place / "data", place / "data.new", place / "password.initdb"
        if data.exists() and any(data.iterdir()):
            raise EngineError(f"{data} is not a PostgreSQL cluster: move it away")
        # What an aborted start left behind was never whole.
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        owner = (account.uid, account.gid) if account else None
        if owner:
            os.chown(fresh, *owner)
        write_private(password_file, password_in(self.folder / "password"), owner)
        major = self._program.version[0] if self._program else 0
        locale = ["--locale=C"]
        if major >= POSTGRES_BUILTIN_LOCALE_MAJOR_MIN:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        words = [str(program.with_name("initdb")), "-D", str(fresh), "-U", "postgres", "-A", "scram-sha-256"]
        words += ["--pwfile", str(password_file), "-E", "UTF8", "--data-checksums", *locale]
        try:
            run_to_end(words, account, _environment())
            single = [str(program), "--single", "-D", str(fresh), "postgres"]
            run_to_end(single, account, _environment(), text=f"CREATE DATABASE {DATABASE}\n")
        finally:
            password_file.unlink(missing_ok=True)
        if data.exists():
            data.rmdir()
        fresh.rename(data)
        _sync_folder(place)

    def _launch(self, program: Path, data: Path, account: Account | None) -> bool:
        """Start and wait. Returns False when leftovers of an earlier server must end first."""
        for _ in range(5):
            if self._choose_port and self.port == 0:
                self.port = free_port()
            else:
                require_free(self.port)
            words = [str(program), "-D", str(data), "-p", str(self.port)]
            for name, value in self._options.items():
                words += ["-c", f"{name}={value}"]
            child = Child(words, self.folder / "server.log", signal.SIGQUIT, account, _environment())
            if _wait_ready(child, data):
                self._child = child
                return True
            if "pre-existing shared memory block" in child.log_text():
                return False
            if "could not bind" not in child.log_text():
                break
            if self._choose_port:
                self.port = 0
        raise EngineError(f"PostgreSQL did not start: {child.last_words()} ({child.log_file})")


def _buffers_mib() -> int:
    """Return a quarter of the memory of this machine or container, within bounds."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _MEMORY_LIMITS:
        # Without a limit there is no such file, or a word or a huge number in it.
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path(limit).read_text(encoding="ascii")))
    return min(max(memory // 4 // _MIB, _BUFFERS_MIN_MIB), _BUFFERS_MAX_MIB)


def _wait_ready(child: Child, data: Path) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while child.alive:
        lines = _pid_file_lines(data)
        # The server writes its state there itself, so no client library is needed to ask.
        written = len(lines) >= _PID_FILE_STATUS_LINE and lines[0] == str(child.pid)
        if written and lines[_PID_FILE_STATUS_LINE - 1].strip() == "ready":
            return True
        if time.monotonic() > deadline:
            child.kill()
            raise EngineError(f"PostgreSQL was not ready within {_START_TIMEOUT_S:.0f} s ({child.log_file})")
        time.sleep(_POLL_S)
    return False


def _settle_pid_file(data: Path) -> None:
    """Deal with the pid file of a server that was killed.

    PostgreSQL takes any live process of the same user with that pid for itself and refuses to start. Removing the file
    would also remove its check for backends that still use the cluster, so only a pid that is somebody else's is
    replaced by ours, which PostgreSQL knows as its parent and ignores.
    """
    lines = _pid_file_lines(data)
    if not lines or not lines[0].isdigit():
        return
    pid = int(lines[0])
    deadline = time.monotonic() + _ORPHANS_TIMEOUT_S
    while is_running(pid) and _is_server_of(pid, data):
        if time.monotonic() > deadline:
            raise EngineError(f"a PostgreSQL (pid {pid}) already runs on {data}: stop it first")
        time.sleep(_POLL_S)
    # A killed server whose new parent never reaps it, as in many containers, still counts as alive for PostgreSQL.
    if is_known(pid):
        file = data / "postmaster.pid"
        with file.open("r+", encoding="ascii") as opened:
            opened.write("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
            opened.truncate()


def _is_server_of(pid: int, data: Path) -> bool:
    words = command_of(pid).split()
    return bool(words) and Path(words[0]).name.startswith("postgres") and str(data) in words


def _pid_file_lines(data: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (data / "postmaster.pid").read_text(encoding="ascii").splitlines()
    return []


def _owner(data: Path, account: Account | None) -> Account | None:
    """Return the account to use: a cluster that an ordinary user made is run as that user when root starts it."""
    if account is None or not data.exists():
        return account
    status = data.stat()
    if status.st_uid in (0, account.uid):
        return account
    return Account(pwd.getpwuid(status.st_uid).pw_name, status.st_uid, status.st_gid)


def _require_same_major(data: Path, program: Program) -> None:
    major = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if major != str(program.version[0]):
        raise EngineError(
            f"{data} was made by PostgreSQL {major}, but {program.label} is installed: install that version again, "
            "or dump the folder's databases with it, remove the folder and restore them"
        )


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like of a developer's shell must not reach this server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG") and name != "LD_PRELOAD"}
    return {**kept, "LC_ALL": "C"}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
