"""What a replay found: a table for people, one JSON object for programs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.table import Table

from ledger.verify import Verified
from server.errors import OperatorError
from server.replay.drive import Sales

_LATENCY_US_MAX = 3_600_000_000
_SIGNIFICANT_DIGITS = 3
_MS_US = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """A finished replay. `verified` is None when the books are not clean, and `bad_row` then says why."""

    sales: Sales
    verified: Verified | None
    bad_row: str = ""

    @property
    def outstanding(self) -> int:
        """The points that all households have left, in minor units."""
        return sum(self.sales.balances.values())

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when the replay proves what it is to prove."""
        sales, found = self.sales, list(self.sales.wrong)
        if sales.wrong_answers > len(sales.wrong):
            found.append(f"... and {sales.wrong_answers - len(sales.wrong)} more wrong answers")
        if sales.earned - sales.spent != self.outstanding:
            found.append(f"earned {sales.earned} - spent {sales.spent} should be outstanding, is {self.outstanding}")
        if self.verified is None:
            found.append(f"the books are not clean: {self.bad_row}")
        elif (self.verified.balance, self.verified.held, self.verified.owed) != (self.outstanding, 0, 0):
            found.append(
                f"the journal has {self.verified.balance} points ({self.verified.held} held, {self.verified.owed} "
                f"owed), the tills were told {self.outstanding}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the report; points are minor units, latencies milliseconds."""
        p50_ms, p99_ms = _percentiles_ms(self.sales)
        clean: dict[str, Any] = {"clean": False, "what": self.bad_row}
        if self.verified is not None:
            clean = {"clean": True, **asdict(self.verified)}
        return {
            "baskets": self.sales.baskets,
            "requests": self.sales.requests,
            "seconds": round(self.sales.elapsed_s, 3),
            "requests_per_s": round(_rate(self.sales), 1),
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
            "earned": self.sales.earned,
            "spent": self.sales.spent,
            "outstanding": self.outstanding,
            "wrong_answers": self.sales.wrong_answers,
            "verify": clean,
            "households": {str(household): points for household, points in sorted(self.sales.balances.items())},
        }

    def write(self, path: Path) -> None:
        """Write the JSON object into a file. Raises OperatorError."""
        try:
            path.write_bytes(orjson.dumps(self.to_json(), option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise OperatorError(f"{path} cannot be written: {error.strerror}") from None

    def show(self) -> None:
        """Print the table."""
        found = self.to_json()
        table = Table(title="The Complete Journey", show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        rows = {
            "baskets": f"{found['baskets']:,}",
            "households": f"{len(found['households']):,}",
            "requests": f"{found['requests']:,}",
            "seconds": f"{found['seconds']:,.1f}",
            "requests/s": f"{found['requests_per_s']:,.0f}",
            "p50": f"{found['p50_ms']:.2f} ms",
            "p99": f"{found['p99_ms']:.2f} ms",
            "points earned": _points(found["earned"]),
            "points spent": _points(found["spent"]),
            "points outstanding": _points(found["outstanding"]),
            "wrong answers": f"{found['wrong_answers']:,}",
            "verify": "not clean" if self.verified is None else f"clean, {self.verified.entries:,} entries",
        }
        for name, text in rows.items():
            table.add_row(name, text)
        Console().print(table)


def _rate(sales: Sales) -> float:
    return sales.requests / sales.elapsed_s if sales.elapsed_s else 0.0


def _points(minor: int) -> str:
    whole, rest = divmod(minor, 100)
    return f"{whole:,}.{rest:02d}"


def _percentiles_ms(sales: Sales) -> tuple[float, float]:
    histogram = HdrHistogram(1, _LATENCY_US_MAX, _SIGNIFICANT_DIGITS)
    for latency_us in sales.latencies_us:
        histogram.record_value(max(1, latency_us))
    return histogram.get_value_at_percentile(50) / _MS_US, histogram.get_value_at_percentile(99) / _MS_US
