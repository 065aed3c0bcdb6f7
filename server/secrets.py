"""The four secret keys: made at the first `tillwire up`, given by file or environment in production.

They must outlive the database: without `token_key` no card finds its account, without `personal_key` no name can be
read, without `seal_key` no row can be verified, and another `scram_server_key` changes the salts of unknown terminals
and every relay's key.
"""

import contextlib
import hashlib
import os
import secrets
import stat
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from protocol.relay_keys import derived
from server.errors import OperatorError
from server.settings import Settings

KEY_BYTES = 32
VARIABLE_PREFIX = "TILLWIRE_SECRET_"
_MODE = 0o600
# A group may read (root owns, a service group reads), nobody else, and nobody but the owner may write.
_FORBIDDEN = stat.S_IWGRP | stat.S_IRWXO


class SecretsError(OperatorError):
    """The secret keys are missing, incomplete or readable by others."""


@dataclass(frozen=True)
class Secrets:
    """Four keys of 32 random bytes. Never shown: their representation leaves them out."""

    token_key: bytes = field(repr=False)
    """Turns a card's token into the 16 bytes that stand for it outside the process (keyed BLAKE2b)."""
    seal_key: bytes = field(repr=False)
    """Seals the rows of the journal, so that `verify` finds an altered one (keyed BLAKE2b)."""
    scram_server_key: bytes = field(repr=False)
    """Derives the salt of unknown terminals, so that they look like known ones, and the keys of relays."""
    personal_key: bytes = field(repr=False)
    """Encrypts names (AES-GCM)."""

    @property
    def relay_master(self) -> bytes:
        """What the keys of all relays are derived from: another `scram_server_key` makes all of them worthless."""
        return derived(self.scram_server_key, "tillwire relays")

    def fingerprint(self) -> str:
        """Return 16 hex digits that tell sets of keys apart and reveal nothing of them."""
        digest = hashlib.blake2b(person=b"tillwire-secrets", digest_size=8)
        for one in fields(self):
            digest.update(getattr(self, one.name))
        return digest.hexdigest()

    def to_handover(self) -> dict[str, str]:
        """Return the keys in hex, for an inherited pipe only."""
        return {one.name: getattr(self, one.name).hex() for one in fields(self)}

    @classmethod
    def from_handover(cls, values: dict[str, str]) -> "Secrets":
        """Return the keys that `to_handover` wrote."""
        return _parsed(values, "the supervisor")


NAMES = tuple(one.name for one in fields(Secrets))


def load_secrets(settings: Settings, *, create: bool = False) -> Secrets:
    """Return the keys from the environment, or else from `secrets_file`, or else from `data_dir`/secrets.toml.

    Only the last is created, and only when `create` says so: new keys beside an old database would orphan every card.
    Raises SecretsError.
    """
    given = {name: value for name in NAMES if (value := os.environ.get(VARIABLE_PREFIX + name.upper()))}
    if given:
        return _parsed(given, "the environment")
    path = settings.secrets_file or settings.data_dir / "secrets.toml"
    if not path.exists():
        if settings.secrets_file is not None or not create:
            raise SecretsError(
                f"there are no secret keys: {path} does not exist; make it once with `tillwire secrets create` and "
                "keep it as long as the database"
            )
        create_secrets(path)
    return _parsed(_read(path), str(path))


def create_secrets(path: Path) -> None:
    """Write new keys into a file of mode 0600 that does not exist yet. Raises SecretsError."""
    text = "# The secret keys of Tillwire. Keep this file as long as the database, apart from its backups.\n"
    text += "".join(f'{name} = "{secrets.token_hex(KEY_BYTES)}"\n' for name in NAMES)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never replaces keys that somebody else has just made.
        os.link(fresh, path)
    except FileExistsError:
        raise SecretsError(f"{path} exists: its keys are not replaced") from None
    except OSError as error:
        raise SecretsError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _FORBIDDEN:
                raise SecretsError(
                    f"{path} holds secret keys and others can read or change it (mode {stat.S_IMODE(mode):04o}): "
                    f"run `chmod 600 {path}`, and make new keys if somebody may have read it"
                )
            return tomllib.load(file)
    except OSError as error:
        raise SecretsError(f"the secret keys in {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The parser's own words might quote a key.
        raise SecretsError(f"{path} is not valid TOML") from None


def _parsed(values: dict[str, Any], origin: str) -> Secrets:
    keys: dict[str, bytes] = {}
    for name in NAMES:
        text = values.get(name)
        if text is None:
            raise SecretsError(f"{origin} lacks the secret key {name}")
        try:
            keys[name] = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            keys[name] = b""
        if len(keys[name]) != KEY_BYTES:
            raise SecretsError(f"the secret key {name} of {origin} is not {2 * KEY_BYTES} hexadecimal digits")
    if len(set(keys.values())) != len(keys):
        raise SecretsError(f"two secret keys of {origin} are the same: each needs its own")
    return Secrets(**keys)
