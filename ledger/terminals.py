"""Who signs on: terminals as PostgreSQL has them, or had them when it went away and nothing has changed since."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from ledger.journal.pulse import Pulse
from ledger.journal.reader import Reader
from ledger.journal.writer import JournalDown
from ledger.programme import Terminal


class Terminals:
    """Every change of a terminal is a new version of the programme, so what is remembered is as good as the version."""

    def __init__(self, reader: Reader, pulse: Pulse, version: Callable[[], int], *, entries_max: int) -> None:
        self._reader = reader
        self._pulse = pulse
        self._version = version
        self._entries_max = entries_max
        self._known: OrderedDict[str, tuple[int, Terminal]] = OrderedDict()

    async def named(self, codes: Sequence[str]) -> dict[str, Terminal]:
        """Return those of the terminals that exist. Raises JournalDown when only PostgreSQL could tell."""
        version = self._version()
        if self._pulse.silent:
            return self._remembered(codes)
        try:
            terminals = await self._reader.terminals(codes)
        except JournalDown:
            return self._remembered(codes)
        for code, terminal in terminals.items():
            self._known[code] = version, terminal
            self._known.move_to_end(code)
        while len(self._known) > self._entries_max:
            self._known.popitem(last=False)
        return terminals

    def _remembered(self, codes: Sequence[str]) -> dict[str, Terminal]:
        remembered = {}
        for code in codes:
            version, terminal = self._known.get(code, (None, None))
            if terminal is None or version != self._version():
                raise JournalDown("PostgreSQL does not answer")
            remembered[code] = terminal
        return remembered
