"""PostgreSQL refuses to run as root: which user then runs it, and where that user can reach files."""

import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path

from server.engines.binaries import Program
from server.engines.child import Account, EngineError, run_to_end

# Used by root only, for what an unprivileged user cannot reach under a private home folder.
STATE_FOLDER = Path("/var/lib/tillwire")
_USER = "nobody"


def unprivileged() -> Account | None:
    """Return the user as whom PostgreSQL has to run, or None when this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_USER)
    except KeyError:
        raise EngineError(f"PostgreSQL refuses to run as root and there is no user {_USER}") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def reachable_folder(folder: Path, account: Account | None) -> Path:
    """Return where the account's files of `folder` can live, creating it.

    That is `folder` itself, unless a parent folder is closed to the account. The modes of folders that were there
    before are not ours to change, so the place is then under STATE_FOLDER, and `folder` becomes a link to it.
    """
    if account is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.resolve()
    if folder.is_symlink():
        folder.resolve().mkdir(parents=True, exist_ok=True)
    else:
        make_passable(folder)
    if _can_pass(folder.resolve(), account):
        return folder.resolve()
    if folder.is_symlink() or any(folder.iterdir()):
        raise EngineError(f"user {account.name}, as whom PostgreSQL runs here, cannot reach {folder.resolve()}")
    place = STATE_FOLDER / hashlib.blake2b(os.fsencode(folder.absolute()), digest_size=8).hexdigest()
    try:
        make_passable(place)
    except OSError as error:
        raise EngineError(
            f"{place} cannot be created ({error.strerror}): set data_dir to a folder open to all"
        ) from None
    folder.rmdir()
    folder.symlink_to(place)
    return place


def make_passable(folder: Path) -> None:
    """Create a folder and its missing parents so that others can pass through (not list) the new ones."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        part.chmod(0o711)


def runnable(program: Program, account: Account | None) -> Path:
    """Return the program's path, or that of a copy when the account cannot read a virtual environment's files."""
    if account is None or program.tree is None:
        return program.path
    try:
        run_to_end([str(program.path), "--version"], account)
    except EngineError:
        return _copied(program, program.tree, account)
    return program.path


def _copied(program: Program, tree: Path, account: Account) -> Path:
    version = ".".join(str(number) for number in program.version)
    place = STATE_FOLDER / "engines" / f"{tree.name}-{version}"
    inside = place / program.path.relative_to(tree.parent)
    if not inside.exists():
        fresh = place.with_name(f"{place.name}.{os.getpid()}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        make_passable(place.parent)
        # The programs find their libraries in the sibling folder `.libs` by a relative path.
        for part in (tree, tree.with_name(tree.name + ".libs")):
            if part.exists():
                shutil.copytree(part, fresh / part.name, symlinks=True)
        for path in [fresh, *fresh.rglob("*")]:
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        try:
            fresh.rename(place)
        except OSError:
            shutil.rmtree(fresh)  # Another start was quicker.
    run_to_end([str(inside), "--version"], account)
    return inside


def _can_pass(folder: Path, account: Account) -> bool:
    for part in (folder, *folder.parents):
        status = part.stat()
        needed = stat.S_IXUSR if status.st_uid == account.uid else stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True
