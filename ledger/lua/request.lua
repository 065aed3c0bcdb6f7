-- The request as the decision reads it. Days are days since 1970-01-01 in the programme's time zone, times are
-- milliseconds since 1970-01-01 UTC, points and money are minor units.
-- unpack(array): arguments: the 24 positional fields; result: the same with names. Absent ids are false, never nil.
local M = {}

function M.unpack(a)
  return {
    op = a[1],
    id = a[2], -- 16 raw bytes, false for SETTLE
    token = a[3], -- 16 raw bytes, false when no card takes part (SETTLE, ADJUST)
    terminal = a[4],
    partner = a[5],
    now_ms = a[6],
    today = a[7],
    permitted = a[8],
    currency_ok = a[9],
    time_ok = a[10],
    points = a[11], -- signed for ADJUST only
    amount = a[12], -- of the receipt
    eligible = a[13], -- part of the amount that earns, -1 = all
    partial = a[14],
    target = a[15], -- hold_id or original_id, else false
    hold_ms = a[16], -- 0 = the network's default
    terminal_room = a[17], -- points this terminal may still spend today, -1 = no limit
    active_day = a[18], -- of points that come in now
    expiry_day = a[19], -- of points that come in now, 0 = never
    new_token = a[20], -- of REPLACE, else false
    new_token_state = a[21], -- 0 unknown, 1 issued on a pristine account, 2 in use
    context = a[22], -- what the journal knows of the target (see context.lua), else false
    memo = a[23], -- opaque bytes, copied into the entry
    sale_ms = a[24],
  }
end

return M
