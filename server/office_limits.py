"""The bounds of the operators' HTTP layer as the settings give them."""

from __future__ import annotations

from admin_api.office import OfficeLimits
from server.settings import Settings

_MS = 1000


def office_limits(settings: Settings) -> OfficeLimits:
    """Return what bounds the HTTP layer."""
    return OfficeLimits(
        adjust_alone_points_max=settings.adjust_alone_points_max,
        session_idle_s=_seconds(settings.session_idle_ms),
        session_s=_seconds(settings.session_ms),
        invitation_s=_seconds(settings.invitation_ms),
        member_token_s_max=_seconds(settings.member_token_ms_max),
        idempotency_s=_seconds(settings.idempotency_ms),
        requests_per_minute_max=settings.requests_per_minute_max,
        sign_ins_per_minute_max=settings.sign_ins_per_minute_max,
        failures_max=settings.sign_in_failures_max,
        lockout_s=_seconds(settings.lockout_ms),
        body_bytes_max=settings.admin_body_bytes_max,
        streams_max=settings.admin_streams_max,
        page_rows_max=settings.admin_page_rows_max,
        token_days_max=settings.token_days_max,
        batch_cards_max=settings.card_batch_cards_max,
    )


def _seconds(ms: int) -> int:
    """Return whole seconds, at least one."""
    return max(1, ms // _MS)
