-- One account's state: the bytes as which it is stored, and the table with names on which a decision is made.
-- unpack(packed, from): arguments: a string and the position at which the state begins in it, up to its end; result: the table.
-- pack(state): result: the bytes. ledger/states.py reads and writes the same.
--
-- The bytes are numbers of fixed width (HEADER), the ring, the tokens, the lots (LOT), and MessagePack of the holds if there
-- are any. The first byte, the form, tells how wide amounts are: an account with little, and little of it held, has a short
-- state.
--
-- lots: flat quads {from, until, free, held} sorted by (until, from), until 0 = never, sorted last.
-- holds: {id, until_ms, amount, alloc, day, partner}; alloc: {from, until, points} in the order of the lots;
--   day: the day whose counters the hold was counted in; partner: who made it, nobody else may end it.
-- tokens: a string of 17-byte records, token and status: 0 issued, 1 active, 2 blocked, 3 replaced.
-- ring: a string of 16-byte request ids, newest last.
-- status: OPEN, BLOCKED (operators stop and start it) or CLOSED (it has become part of another account, and stays so).
local M = { TOKEN_BYTES = 17, OPEN = 0, BLOCKED = 1, CLOSED = 2 }
local byte, sub, rep = string.byte, string.sub, string.rep
local SMALL, HOLDING, LARGE = 0, 1, 2
local SMALL_END, HELD_END = 4294967296, 256

-- Form, account, seq, status, balance, held, owed, forgot, day, points and count of the day, bytes of ring, tokens, lots.
local HEADER = {
  [SMALL] = '>I1I6I5I1I4I4I4I1I3I4I4I1I3I2',
  [HOLDING] = '>I1I6I5I1I4I4I4I1I3I4I4I1I3I2',
  [LARGE] = '>I1I6I5I1I7I7I7I1I3I7I4I1I3I2',
}
local LOT = { [SMALL] = 'I3I3I4I1', [HOLDING] = 'I3I3I4I4', [LARGE] = 'I3I3I7I7' }
local formats = { [SMALL] = {}, [HOLDING] = {}, [LARGE] = {} }

local function lots_format(form, count)
  local known = formats[form][count]
  if not known then
    known = '>' .. rep(LOT[form], count)
    formats[form][count] = known
  end
  return known
end

function M.unpack(packed, from)
  local form, account, seq, status, balance, held, owed, forgot, day, day_points, day_count, ring_bytes, tokens_bytes,
    lots_count, at = struct.unpack(HEADER[byte(packed, from)], packed, from)
  local tokens_at = at + ring_bytes
  local lots_at = tokens_at + tokens_bytes
  local lots = { struct.unpack(lots_format(form, lots_count), packed, lots_at) }
  -- Behind the numbers stands where the next begins.
  local last = lots_count * 4 + 1
  local holds_at = lots[last]
  lots[last] = nil
  return {
    account = account,
    seq = seq,
    status = status,
    balance = balance, -- sum of all lots, free and held
    held = held,
    owed = owed,
    lots = lots,
    holds = holds_at <= #packed and cmsgpack.unpack(sub(packed, holds_at)) or {},
    tokens = sub(packed, tokens_at, lots_at - 1),
    ring = sub(packed, at, tokens_at - 1),
    forgot = forgot, -- 1 once a request has fallen out of the ring, or may have been made of a merged account
    day = day,
    day_points = day_points, -- spent and held on that day
    day_count = day_count,
  }
end

local function form_of(s)
  if s.balance >= SMALL_END or s.owed >= SMALL_END or s.day_points >= SMALL_END then
    return LARGE
  end
  return s.held < HELD_END and SMALL or HOLDING
end

function M.pack(s)
  local form = form_of(s)
  local lots, count = s.lots, #s.lots / 4
  return struct.pack(
    HEADER[form], form, s.account, s.seq, s.status, s.balance, s.held, s.owed, s.forgot, s.day, s.day_points,
    s.day_count, #s.ring, #s.tokens, count
  ) .. s.ring .. s.tokens .. struct.pack(lots_format(form, count), unpack(lots)) .. (
    #s.holds > 0 and cmsgpack.pack(s.holds) or ''
  )
end

return M
