-- Points that return to the lots they came from, and points that are taken out again.
-- net_moves: what the business in question has done to lots so far, flat quads {from, until, free delta, held delta}.
-- give(account, request, points, net_moves, moves): pays what is owed first, then fills the lots that net_moves has
--   drained, latest-expiring first. Result: points of owed paid, not yet taken off account.owed.
-- take(account, points, net_moves, moves): drains the lots that net_moves has filled, then whatever is free,
--   soonest-expiring first. Result: points that were not there, to be owed by the caller's entry.
-- revive(account, request, entries, expired, points): points of this same business that expired the moment they came
--   in return to their lots by an entry of their own, so that nobody pays again for what he never could use.
local M = {}
local NEVER = arithmetic.MAX

local function expires_sooner(a, b)
  local a_key, b_key = a[2] == 0 and NEVER or a[2], b[2] == 0 and NEVER or b[2]
  if a_key ~= b_key then
    return a_key < b_key
  end
  return a[1] < b[1]
end

-- The quads as {from, until, change of the lot}, soonest-expiring first.
local function by_expiry(net_moves)
  local sums = {}
  for i = 1, #net_moves, 4 do
    sums[#sums + 1] = { net_moves[i], net_moves[i + 1], net_moves[i + 2] + net_moves[i + 3] }
  end
  table.sort(sums, expires_sooner)
  return sums
end

function M.give(account, request, points, net_moves, moves)
  local paid = account.owed < points and account.owed or points
  local left = points - paid
  local sums = by_expiry(net_moves)
  local last = sums[#sums]
  for i = #sums, 1, -1 do
    local sum = sums[i]
    if left > 0 and sum[3] < 0 then
      local part = -sum[3] < left and -sum[3] or left
      lots.add(account.lots, sum[1], sum[2], part, moves)
      left = left - part
      last = sum
    end
  end
  if left > 0 and last then
    lots.add(account.lots, last[1], last[2], left, moves)
  elseif left > 0 then
    lots.add(account.lots, request.active_day, request.expiry_day, left, moves)
  end
  return paid
end

local function drain(all, lot, points, moves)
  local free = all[lot + 2]
  local part = free < points and free or points
  if part > 0 then
    all[lot + 2] = free - part
    lots.note(moves, all[lot], all[lot + 1], -part, 0)
  end
  return part
end

function M.take(account, points, net_moves, moves)
  local all, left = account.lots, points
  local sums = by_expiry(net_moves)
  for i = 1, #sums do
    local sum = sums[i]
    local lot = left > 0 and sum[3] > 0 and lots.find(all, sum[1], sum[2])
    if lot then
      left = left - drain(all, lot, sum[3] < left and sum[3] or left, moves)
    end
  end
  for lot = 1, #all, 4 do
    if left == 0 then
      break
    end
    left = left - drain(all, lot, left, moves)
  end
  lots.sweep(all)
  return left
end

function M.revive(account, request, entries, expired, points)
  local left, moves = points, {}
  for i = 1, #expired, 4 do
    local part = -expired[i + 2] < left and -expired[i + 2] or left
    if part > 0 then
      lots.add(account.lots, expired[i], expired[i + 1], part, moves)
      left = left - part
    end
  end
  if left < points then
    entry.append(
      account, entries, request, operations.EXPIRE_LOTS, false, request.target, points - left, 0, 0, moves
    )
  end
end

return M
