"""The filters of a history, as they stand in the address of an account's page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, get_args
from urllib.parse import urlencode

from fastapi import Query

from admin_api.accounts.history import OperationName
from admin_api.fields import INTEGER_MAX
from admin_api.office import Office
from ledger.operations import Operation
from ledger.registry.accounts import EntryFilter

OPERATIONS: tuple[str, ...] = get_args(OperationName)

# Forms send an empty field where all are meant.
_Day = Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What somebody wants to see; an empty text wants any. Days are ISO dates, both inclusive."""

    first: str = ""
    last: str = ""
    operation: str = ""
    store: str = ""
    reference: str = ""

    @staticmethod
    def of_query(
        first: _Day = "",
        last: _Day = "",
        operation: Annotated[str, Query(max_length=20)] = "",
        store: Annotated[str, Query(pattern=r"^\d{0,10}$")] = "",
        reference: Annotated[str, Query(max_length=64)] = "",
    ) -> Chosen:
        """Return what an address asks for; what makes no sense is left out."""
        reference = reference.strip()
        return Chosen(
            first if _day(first) else "",
            last if _day(last) else "",
            operation if operation in OPERATIONS else "",
            store if store and 0 < int(store) <= INTEGER_MAX else "",
            reference if reference.isprintable() else "",
        )

    @property
    def query(self) -> str:
        """The address's query."""
        names = ("first", "last", "operation", "store", "reference")
        return urlencode({name: value for name in names if (value := getattr(self, name))})

    def filter(self, office: Office) -> EntryFilter:
        """Return the filter."""
        first, last = _day(self.first), _day(self.last)
        return EntryFilter(
            from_ms=_midnight_ms(office, first),
            before_ms=_midnight_ms(office, last + timedelta(days=1) if last else None),
            op=int(Operation[self.operation.upper()]) if self.operation else None,
            store_id=int(self.store) if self.store else None,
            reference=self.reference or None,
        )


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # Zones do not reach beyond the ends of the calendar.
    return day if date(1970, 1, 2) <= day <= date(9998, 12, 31) else None


def _midnight_ms(office: Office, day: date | None) -> int | None:
    if day is None:
        return None
    return int(datetime(day.year, day.month, day.day, tzinfo=office.programme.days.zone).timestamp() * 1_000)
