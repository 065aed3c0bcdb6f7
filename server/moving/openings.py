"""What moving in asks of accounts: opening balances and cards, each under an id that is the same at every attempt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgpack

from ledger.journal.enrolment import NewCard
from ledger.operations import Operation
from ledger.registry.secrecy import derived_key
from ledger.submission import ReplyTo, Submission
from server.moving.rows import BalanceRow

REFERENCE = "opening balance"
_CARD_REFERENCE = "moved in"
_REFERENCE_CHARACTERS_MAX = 64
_NOBODY = 0
_NO_TERMS = (0,) * 9
_ID_BYTES = 16
_FINGERPRINT_BYTES = 8


def reference_of(source: str) -> str:
    """Return what the journal says of an opening balance that came from a source ("": the only one)."""
    return f"{REFERENCE}, {source}"[:_REFERENCE_CHARACTERS_MAX] if source else REFERENCE


class RequestIds:
    """Makes the ids of requests from what they are about, so that a repetition is known as one."""

    def __init__(self, personal_key: bytes, source: str) -> None:
        self._key = derived_key(personal_key, b"moving in")
        self._source = source.encode()

    def of_lot(self, row: BalanceRow) -> bytes:
        """Return the id of a lot's opening balance; how many points it has is no part of it."""
        owner = row.external_id.encode() if row.external_id else row.token
        form = b"member" if row.external_id else b"card"
        return self._hash([b"lot", form, owner, row.lot, row.active_day, row.expiry_day])

    def of_card(self, account: int, token: bytes, status: int) -> bytes:
        """Return the id under which a card comes to an account that has a journal already."""
        return self._hash([b"card", account, token, status])

    def _hash(self, parts: list[object]) -> bytes:
        packed: bytes = msgpack.packb([self._source, *parts])
        return hashlib.blake2b(packed, digest_size=_ID_BYTES, key=self._key).digest()


@dataclass(slots=True)
class Asked:
    """One change of one account; `answer` is its outcome once decided, None as long as it is not."""

    account: int
    request_id: bytes
    op: Operation
    reference: str
    points: int = 0
    active_day: int = 0
    expiry_day: int = 0
    card: NewCard | None = None
    token: bytes = b""
    outcome: int | None = field(default=None, compare=False)

    def submission(self, reply_to: ReplyTo, deadline: float) -> Submission:
        """Return it as the ledger takes it; `deadline` in seconds of the monotonic clock."""
        asked = Submission(
            op=int(self.op),
            request_id=self.request_id,
            token=self.token,
            terminal_id=_NOBODY,
            partner_id=_NOBODY,
            network_id=_NOBODY,
            fingerprint=hashlib.blake2b(
                self.request_id + self.points.to_bytes(8, "big"), digest_size=_FINGERPRINT_BYTES
            ).digest(),
            terms=_NO_TERMS,
            deadline=deadline,
            reply_to=reply_to,
            points=self.points,
            active_day=self.active_day,
            expiry_day=self.expiry_day,
            reference=self.reference,
        )
        asked.account = self.account
        if self.card is not None:
            asked.new_token, asked.new_token_kind = self.card.token, self.card.kind
            asked.new_token_masked = self.card.masked
        return asked


def opening(account: int, request_id: bytes, row: BalanceRow, today: int, reference: str) -> Asked:
    """Return the opening balance of a lot; without a first day its points can be spent from today on."""
    return Asked(
        account, request_id, Operation.ADJUST, reference,
        points=row.points, active_day=row.active_day or today, expiry_day=row.expiry_day,
    )  # fmt: skip


def linking(account: int, request_id: bytes, card: NewCard, today: int) -> Asked:
    """Return the coming of an active card to an account that has a journal."""
    return Asked(account, request_id, Operation.LINK, _CARD_REFERENCE, active_day=today, card=card)


def blocking(account: int, request_id: bytes, card: NewCard, today: int) -> Asked:
    """Return the blocking of a card that has just come."""
    return Asked(account, request_id, Operation.BLOCK, _CARD_REFERENCE, active_day=today, token=card.token)
