"""A submission as the decision reads it, see ledger/lua/request.lua."""

from __future__ import annotations

from typing import Any

from ledger.entries import memo_of
from ledger.submission import Submission


def positional(
    submission: Submission, now_ms: int, today: int, context: Any = False, new_card_state: int = 0
) -> tuple[Any, ...]:
    """Return the 24 fields; `context` and `new_card_state` are what PostgreSQL told for it."""
    s = submission
    token = None if s.by_former_card else s.token
    return (
        s.op, s.request_id or False, token or False, s.terminal_id, s.partner_id, now_ms, today, s.permitted,
        s.currency_ok, s.time_ok, s.points, s.amount, s.eligible, s.partial, s.target or False, s.hold_ms,
        s.terminal_room, s.active_day, s.expiry_day, s.new_token or False, new_card_state, context,
        memo_of(s), s.sale_ms or now_ms,
    )  # fmt: skip
