-- One account's state: the positional form in which it is stored, and the named form in which it is decided on.
-- empty(account): argument: the account's number; result: the positional state of a new account.
-- unpack(array): result: a table with names that shares the inner tables of the array.
-- pack(state): result: the array. No position is ever nil.
--
-- lots: {from, until, free, held} sorted by (until, from), until 0 = never, sorted last.
-- holds: {id, until_ms, amount, alloc, day, partner}; alloc: {from, until, points} in the order of the lots;
--   day: the day whose counters the hold was counted in; partner: who made it, nobody else may end it.
-- tokens: {token16, status}, status 0 issued, 1 active, 2 blocked, 3 replaced.
-- ring: {request_id, seq}, newest last.
local M = {}

function M.empty(account)
  return { account, 0, 0, 0, 0, 0, {}, {}, {}, {}, 0, 0, 0, 0 }
end

function M.unpack(a)
  return {
    account = a[1],
    seq = a[2],
    status = a[3], -- 0 active, 1 blocked, 2 closed
    balance = a[4], -- sum of all lots, free and held
    held = a[5],
    owed = a[6],
    lots = a[7],
    holds = a[8],
    tokens = a[9],
    ring = a[10],
    forgot = a[11], -- 1 once a request has fallen out of the ring
    day = a[12],
    day_points = a[13], -- spent and held on that day
    day_count = a[14],
  }
end

function M.pack(s)
  return {
    s.account, s.seq, s.status, s.balance, s.held, s.owed, s.lots, s.holds, s.tokens, s.ring, s.forgot, s.day,
    s.day_points, s.day_count,
  }
end

return M
