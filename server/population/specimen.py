"""An account whose past the product's own scripts have decided, and its copies, with links and seals of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger.entries import EntryWriter, next_link
from ledger.hot_store import Decided, PartitionHead
from ledger.journal.writer import Batch
from ledger.positional import positional
from ledger.programme import Rules
from ledger.standby import StandbyStore
from ledger.states import RING_MAX, State, first_state
from ledger.submission import Refusal, Submission
from protocol.codes import Message
from server.population.history import Step

_ACTIVE = 1
_DAY_MS = 86_400_000
_PARTITION = 0
_HEAD = PartitionHead(1, 1, 0)
#: A number that nothing else in a decision is, so that it can be told apart there.
_ACCOUNT, _TOKEN = 2**40 + 7_411, bytes(16)
#: Where an entry has its request's id and its link (ledger/lua/entry.lua, shell.lua).
_REQUEST, _LINK = 2, 22
#: Where a result has its entries (ledger/lua/result.lua).
_ENTRIES = 6


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the past took place: terminal, network, its partner and rules, the currency of its money."""

    terminal_id: int
    network_id: int
    partner_id: int
    currency: str
    rules: Rules


class Specimen:
    """A past, decided once, to be copied into any number of accounts."""

    def __init__(self, decided: Decided, writer: EntryWriter) -> None:
        self._writer = writer
        self._results = decided.results
        (self._change,) = decided.changes
        self._state = State.unpacked(self._change[-1])
        self.requests = len(self._results)

    @classmethod
    async def live(cls, steps: Sequence[Step], origin: Origin, writer: EntryWriter, store: StandbyStore) -> Specimen:
        """Decide the steps one after the other on a new account, as the ledger does. Raises ScriptFailed."""
        await store.reset(_PARTITION, _HEAD)
        terms = [list(origin.rules.terms)]
        loads = [[1, 0, first_state(_ACCOUNT, [(_TOKEN, _ACTIVE)])]]
        items = [[1, 1, _asked(step, origin, number)] for number, step in enumerate(steps)]
        decided = await store.decide(_PARTITION, _HEAD, 0, [_ACCOUNT], [0, terms, loads, items])
        return cls(decided, writer)

    def copy(self, account: int, token: bytes, ids: Iterable[bytes]) -> Batch:
        """Return what is journaled when this past is an account's own: with its 16-byte card token and request ids."""
        new_ids = iter(ids)
        link, results = 0, []
        ring: list[bytes] = []
        for result in self._results:
            entries = []
            for entry in result[_ENTRIES]:
                own_entry = [*entry]
                if entry[_REQUEST]:
                    own_entry[_REQUEST] = next(new_ids)
                    ring.append(own_entry[_REQUEST])
                link = own_entry[_LINK] = next_link(link, own_entry)
                entries.append(own_entry)
            own = [account if value == _ACCOUNT else value for value in result]
            own[_ENTRIES] = entries
            results.append(own)
        _, _, _, seq, _, balance, held, owed, due_ms, _ = self._change
        state = replace(self._state, account=account, tokens={token: _ACTIVE}, ring=ring[-RING_MAX:])
        change = (account, 0, 0, seq, link, balance, held, owed, due_ms, state.packed())
        return self._writer.journaling([Decided(1, results, [change])]).batch


def _asked(step: Step, origin: Origin, number: int) -> tuple[Any, ...]:
    day = step.at_ms // _DAY_MS
    submission = Submission(
        op=int(step.op),
        request_id=number.to_bytes(16, "big"),
        token=_TOKEN,
        terminal_id=origin.terminal_id,
        partner_id=origin.partner_id,
        network_id=origin.network_id,
        fingerprint=bytes(8),
        terms=origin.rules.terms,
        deadline=0.0,
        reply_to=_Nobody(),
        points=step.points,
        amount=step.amount,
        active_day=day,
        expiry_day=step.expiry_day,
        currency=origin.currency,
        reference="purchase" if step.op == Message.EARN else "payment",
    )
    return positional(submission, step.at_ms, day)


class _Nobody:
    """Takes no answer: what happened long ago was answered then."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Ignore it."""

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Ignore it."""
