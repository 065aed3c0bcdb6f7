-- The request as the decision reads it. Days are days since 1970-01-01 in the programme's time zone, times are
-- milliseconds since 1970-01-01 UTC, points and money are minor units.
-- read(packed, at): arguments: MessagePack, and how many of its bytes stand before the 24 positional fields; result: how
--   many stand before what follows, and the request, which is valid until the next one is read: all share one table.
--   Absent ids are false, never nil.
local M = {}
local unpack_limit = cmsgpack.unpack_limit
local FIELDS = 24
local r = {}

function M.read(packed, at)
  at,
  r.op,
  r.id, -- 16 raw bytes, false for SETTLE
  r.token, -- 16 raw bytes, false when no card takes part (SETTLE, operators who name the account, a card that led here once)
  r.terminal,
  r.partner, -- 0 for an operator
  r.now_ms,
  r.today,
  r.permitted,
  r.currency_ok,
  r.time_ok,
  r.points, -- signed for ADJUST only
  r.amount, -- of the receipt
  r.eligible, -- part of the amount that earns, -1 = all
  r.partial,
  r.target, -- hold_id or original_id, of UNLINK the card, else false
  r.hold_ms, -- 0 = the network's default
  r.terminal_room, -- points this terminal may still spend today, -1 = no limit
  r.active_day, -- of points that come in now
  r.expiry_day, -- of points that come in now, 0 = never
  r.new_token, -- of REPLACE and LINK, else false
  r.new_token_state, -- 0 unknown, 1 issued on a pristine account, 2 in use; of UNLINK: 2 leads elsewhere, or nowhere
  r.context, -- what the journal knows of the target (see context.lua), else false
  r.memo, -- opaque bytes, copied into the entry
  r.sale_ms = unpack_limit(packed, FIELDS, at)
  return at, r
end

return M
