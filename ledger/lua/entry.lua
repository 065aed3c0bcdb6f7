-- Entries of the journal: one per effect, numbered without gaps, each with the running totals after it.
-- append(account, entries, request, op, id, target, points, held, owed, moves): takes the deltas into the account's
--   totals and appends an entry with them. Result: the entry, whose other positions the caller fills in.
-- remember(account, id): puts the newest entry's request id into the ring.
-- remembers(account, id): whether the ring knows it.
local M = {
  SPENT = 11,
  EARNED = 12,
  REFUNDED = 13,
  AMOUNT = 14,
  ELIGIBLE = 15,
  RATE_BP = 20,
  TOKENS = 21,
  MEMO = 22,
  LENGTH = 22,
  RING_MAX = 8,
}
-- Of nearly all entries, so that they share it; nobody writes into it.
local NO_CARDS = {}
local RING_MAX, ID_BYTES = M.RING_MAX, 16

function M.append(account, entries, request, op, id, target, points, held, owed, moves)
  local seq = account.seq + 1
  account.seq = seq
  account.balance = account.balance + points
  account.held = account.held + held
  account.owed = account.owed + owed
  local own = id and id == request.id
  local row = {
    seq, op, id, id and request.terminal or 0, points, held, owed, account.balance, account.held, account.owed,
    0, 0, 0, 0, -1, target, moves, request.now_ms, own and request.sale_ms or request.now_ms, 0,
    NO_CARDS, own and request.memo,
  }
  entries[#entries + 1] = row
  return row
end

function M.remember(account, id)
  local ring = account.ring .. id
  if #ring > RING_MAX * ID_BYTES then
    ring = string.sub(ring, ID_BYTES + 1)
    account.forgot = 1
  end
  account.ring = ring
end

function M.remembers(account, id)
  return records.find(account.ring, ID_BYTES, id) ~= nil
end

return M
