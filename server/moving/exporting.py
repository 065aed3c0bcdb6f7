"""Writes everything into CSV files from one moment, with a manifest of counts, sums and checksums."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

from ledger.hot_store import unpack
from ledger.journal.leaving import Leaving, note_export
from ledger.journal.writer import JournalDown
from ledger.operations import Operation
from ledger.registry.personal import EXTERNAL_ID, EXTERNAL_SOURCE, PersonalData, PersonalFields
from ledger.registry.secrecy import Unreadable
from ledger.states import State
from server.errors import OperatorError
from server.moving.formulas import guarded
from server.moving.values import EPOCH_DAY, POINT, STATUS_NAMES

MANIFEST = "manifest.json"
_PLAIN = ("partners", "networks", "stores", "terminals", "relays", "rules", "rules_versions", "audit")
_KINDS = {1: "ean13", 2: "pan", 4: "phone", 5: "virtual"}
_MEMBER = ("external_id", "given_name", "family_name", "phone", "email", "birthday", "language", "consents")
_EVERY_ROWS = 5_000
_CARDS_NOTE = "card numbers are not known to the server: it keeps a keyed hash (token) and the masked number"


@dataclass(slots=True)
class Manifest:
    """What lies in the folder; points are minor units."""

    made: str
    personal: bool
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def export_all(
    postgres_url: str, personal_key: bytes, folder: Path, progress: Callable[[int], None], *, personal: bool
) -> Manifest:
    """Write all files into a folder that is new or empty; `progress` is told rows. Raises OperatorError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OperatorError(f"{folder} is not empty: name a new folder")
        return asyncio.run(_export(postgres_url, personal_key, folder, progress, personal=personal))
    except OSError as error:
        raise OperatorError(f"{folder} cannot be written: {error.strerror}") from None
    except JournalDown as error:
        raise OperatorError(f"the export stopped: {error}") from None


async def _export(
    postgres_url: str, personal_key: bytes, folder: Path, progress: Callable[[int], None], *, personal: bool
) -> Manifest:
    # What leaves is noted before it does.
    await note_export(postgres_url, time.time_ns() // 1_000_000, personal=personal)
    manifest = Manifest(datetime.now(UTC).isoformat(timespec="seconds"), personal, notes=[_CARDS_NOTE])
    if not personal:
        manifest.notes.append('personal data were left out; external_id is "account-" and the number of the account')
    leaving = await Leaving.open(postgres_url)
    try:
        files = _Files(folder, manifest, progress)
        names = _Names(PersonalData(personal_key), personal=personal)
        for subject in _PLAIN:
            await _plain(leaving, files, subject)
        await _conflicts(leaving, files, personal=personal)
        await _members(leaving, files, names)
        await _cards(leaving, files)
        await _accounts(leaving, files, names)
        await _entries(leaving, files)
        await _prove(leaving, manifest)
    finally:
        await leaving.close()
    _write_manifest(folder, manifest)
    return manifest


async def _plain(leaving: Leaving, files: _Files, subject: str) -> None:
    with files.file(subject) as file:
        file.title(await leaving.columns(subject))
        async for row in leaving.rows(subject):
            file.add(row)


async def _conflicts(leaving: Leaving, files: _Files, *, personal: bool) -> None:
    with files.file("conflicts") as file:
        file.title(await leaving.columns("conflicts"))
        async for row in leaving.rows("conflicts"):
            # Whoever settled one may have noted whom it was about.
            file.add({**row, "note": row["note"] if personal else ""})


async def _members(leaving: Leaving, files: _Files, names: _Names) -> None:
    with files.file("members") as file:
        file.title((*_MEMBER, "attributes", "kept", "account", "created_ms", "changed_ms", "erased"))
        async for row in leaving.rows("members"):
            told, kept = names.told(row["account_id"], row["data"])
            shown = {name: getattr(told, name, "") or "" for name in _MEMBER}
            shown["external_id"] = names.external_id(row["account_id"], told)
            shown["consents"] = " ".join(name if agreed else f"-{name}" for name, agreed in told.consents.items())
            more = {name: text for name, text in told.attributes.items() if name not in (EXTERNAL_ID, EXTERNAL_SOURCE)}
            shown["attributes"] = json.dumps(more, ensure_ascii=False) if more else ""
            file.add({
                **shown, "kept": kept, "account": row["account_id"], "created_ms": row["created_ms"],
                "changed_ms": row["changed_ms"], "erased": int(row["erased_ms"] is not None),
            })  # fmt: skip


async def _cards(leaving: Leaving, files: _Files) -> None:
    with files.file("cards") as file:
        file.title(("account", "token", "masked", "kind", "status", "made_ms"))
        async for row in leaving.rows("cards"):
            file.add({
                "account": row["account_id"], "token": row["token"], "masked": row["masked"],
                "kind": _KINDS.get(row["kind"], row["kind"]), "status": STATUS_NAMES[row["status"]],
                "made_ms": row["made_ms"],
            })  # fmt: skip


async def _accounts(leaving: Leaving, files: _Files, names: _Names) -> None:
    sums = dict.fromkeys(("accounts", "balance", "held", "owed"), 0)
    balance_sum = 0
    with (
        files.file("accounts") as accounts,
        files.file("lots") as lots,
        files.file("holds") as holds,
        files.file("balances") as balances,
    ):
        accounts.title(("account", "entries", "status", "balance", "held", "owed"))
        lots.title(("account", "from", "until", "free", "held"))
        holds.title(("account", "hold", "until_ms", "points", "amount"))
        balances.title(("external_id", "points", "expires_on", "pending_from", "lot"))
        async for row in leaving.rows("accounts"):
            state = State.unpacked(row["state"])
            account = row["account_id"]
            accounts.add({
                "account": account, "entries": row["seq"], "status": ("active", "blocked", "closed")[state.status],
                "balance": row["balance"], "held": row["held"], "owed": row["owed"],
            })  # fmt: skip
            sums["accounts"] += 1
            for name in ("balance", "held", "owed"):
                sums[name] += row[name]
            told, _ = names.told(account, row["data"])
            external_id = names.external_id(account, told)
            for number, (first, last, free, held) in enumerate(state.lots):
                lots.add({"account": account, "from": _iso(first), "until": _iso(last), "free": free, "held": held})
                balance_sum += free + held
                balances.add({
                    "external_id": external_id, "points": _points(free + held), "expires_on": _iso(last),
                    "pending_from": _iso(first), "lot": f"{account}-{number}",
                })  # fmt: skip
            for hold_id, until_ms, amount, alloc, *_ in state.holds:
                points = sum(part[2] for part in alloc)
                holds.add({
                    "account": account, "hold": hold_id.hex(), "until_ms": until_ms, "points": points, "amount": amount,
                })  # fmt: skip
    files.manifest.sums.update(sums, lots=balance_sum)


async def _entries(leaving: Leaving, files: _Files) -> None:
    count = points = 0
    with files.file("entries") as file:
        file.title(await leaving.columns("entries"))
        async for row in leaving.rows("entries"):
            moves, cards = unpack(row["moves"]), row["cards"]
            shown = dict(row)
            shown["op"] = Operation(row["op"]).name.lower()
            shown["moves"] = json.dumps(moves)
            shown["cards"] = "" if cards is None else json.dumps([_plain_value(value) for value in unpack(cards)])
            file.add(shown)
            count += 1
            points += row["points"]
    files.manifest.sums.update(entries=count, entries_points=points)


async def _prove(leaving: Leaving, manifest: Manifest) -> None:
    """Hold what was written against what PostgreSQL counts in the same moment. Raises OperatorError."""
    async for row in leaving.rows("totals"):
        found = {name: manifest.sums[name] for name in row.keys()}  # noqa: SIM118 - a row of asyncpg is no dict
        if found != dict(row) or manifest.sums["lots"] != row["balance"]:
            raise OperatorError(f"the totals do not agree: the files have {manifest.sums}, the database {dict(row)}")


class _Names:
    """What members are called outside."""

    def __init__(self, data: PersonalData, *, personal: bool) -> None:
        self._data = data
        self._personal = personal

    def told(self, account: int, stored: bytes | None) -> tuple[PersonalFields, str]:
        """Return personal data as far as they are asked for, and the names of the fields that are kept."""
        if stored is None:
            return PersonalFields(), ""
        try:
            told = self._data.decrypt(account, stored)
        except Unreadable:
            raise OperatorError(f"the personal data of account {account} are under another personal_key") from None
        return told if self._personal else PersonalFields(), " ".join(told.told())

    @staticmethod
    def external_id(account: int, told: PersonalFields) -> str:
        """Return the id of the old system, or one made of the account's number."""
        known, source = told.attributes.get(EXTERNAL_ID), told.attributes.get(EXTERNAL_SOURCE)
        if not known:
            return f"account-{account}"
        return f"{source}/{known}" if source else known


class _Files:
    """The files of one export."""

    def __init__(self, folder: Path, manifest: Manifest, progress: Callable[[int], None]) -> None:
        self._folder = folder
        self.manifest = manifest
        self._progress = progress
        self._rows = 0

    def file(self, subject: str) -> _File:
        """Return a new file for a subject."""
        return _File(self._folder / f"{subject}.csv", self._done, self._count)

    def _count(self) -> None:
        self._rows += 1
        if self._rows % _EVERY_ROWS == 0:
            self._progress(self._rows)

    def _done(self, name: str, rows: int, digest: str) -> None:
        self.manifest.files[name] = {"rows": rows, "sha256": digest}


class _File:
    """One CSV file in UTF-8, readable by its owner alone."""

    def __init__(self, path: Path, done: Callable[[str, int, str], None], count: Callable[[], None]) -> None:
        self._path = path
        self._done = done
        self._count = count
        self._digest = hashlib.sha256()
        self._rows = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._stream = self._stack.enter_context(os.fdopen(number, "wb"))
        self._writer = csv.writer(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._done(self._path.name, self._rows, self._digest.hexdigest())

    def write(self, text: str) -> int:
        """Take what the CSV writer makes."""
        data = text.encode()
        self._digest.update(data)
        return self._stream.write(data)

    def title(self, columns: Iterable[str]) -> None:
        """Write the header."""
        self._writer.writerow(columns)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row, whose values stand in the order of the header."""
        self._writer.writerow([_cell(value) for value in row.values()])
        self._rows += 1
        self._count()


def _cell(value: Any) -> Any:
    return guarded(value) if isinstance(value, str) else "" if value is None else value


def _plain_value(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _iso(day: int) -> str:
    return date.fromordinal(day + EPOCH_DAY).isoformat() if day else ""


def _points(minor: int) -> str:
    return f"{minor // POINT}.{minor % POINT:02}"


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it last: a folder without one is no whole export."""
    fresh = folder / f"{MANIFEST}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump(asdict(manifest), stream, indent=2, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(folder / MANIFEST)
