-- REFUND and REVERSE: what an earlier request did is undone, in part or as a whole.
-- refund(account, request), reverse(account, request): arguments: state, request with the journal's context of its target;
--   result: the decision's result. The context must be as new as the state, or the same goods could come back twice.
local M = {}
local MAX = arithmetic.MAX
local OP, FOUND, FATE, DAY = context.OP, context.FOUND, context.FATE, context.DAY
local NET_SPENT, NET_EARNED, NET_REFUNDED = context.NET_SPENT, context.NET_EARNED, context.NET_REFUNDED
local SPENT, EARNED, AMOUNT = context.SPENT, context.EARNED, context.AMOUNT

local REFUNDABLE = {
  [operations.REDEEM] = true,
  [operations.CAPTURE] = true,
  [operations.EARN] = true,
  [operations.SALE] = true,
}
local REVERSIBLE = {
  [operations.REDEEM] = true,
  [operations.HOLD] = true,
  [operations.CAPTURE] = true,
  [operations.EARN] = true,
  [operations.SALE] = true,
  [operations.REFUND] = true,
  [operations.TOMBSTONE] = true,
}

-- What must hold before the target is looked at: a result that ends the decision, or nil.
local function unusable(account, request)
  local known = request.context
  if not request.permitted then
    return result.declined(account, request, outcomes.NOT_PERMITTED)
  end
  if not known then
    return result.undecided(account, result.NEED_CONTEXT)
  end
  if known[context.AS_OF_SEQ] ~= account.seq then
    return result.undecided(account, result.STALE_CONTEXT)
  end
  if known[FOUND] ~= 0 and known[context.PARTNER] ~= request.partner then
    return result.declined(account, request, outcomes.NOT_PERMITTED)
  end
  local declined = gate.owner(account, request)
  return declined and result.declined(account, request, declined)
end

-- Whether the numbers still fit: the balance with what comes in (also for a moment), and what is owed with what is taken.
local function fits(account, request, given, taken)
  local available, held, pending = balance.measure(account, request.now_ms, request.today)
  local room = MAX - (available + held + pending)
  local revived = request.context[context.NET_EXPIRED] and taken or 0
  return given <= room and revived <= room - given and taken <= MAX - account.owed
end

-- Moves the points both ways. Result: the entry's moves and the change of what is owed.
local function exchange_points(account, request, given, taken, moves, entries)
  local known = request.context
  local net_moves = known[context.NET_MOVES]
  local expired = known[context.NET_EXPIRED]
  if taken > 0 and expired then
    exchange().revive(account, request, entries, expired, taken)
  end
  local paid = exchange().give(account, request, given, net_moves, moves)
  return exchange().take(account, taken, net_moves, moves) - paid
end

local function refund_decline(known)
  if known[FOUND] == 0 then
    return outcomes.ORIGINAL_UNKNOWN
  end
  if not REFUNDABLE[known[OP]] then
    return outcomes.ORIGINAL_UNSUITABLE
  end
  if known[FOUND] == 2 then
    return outcomes.ORIGINAL_OTHER_CARD
  end
  return known[FATE] == operations.REVERSE and outcomes.ORIGINAL_REVERSED or nil
end

-- Points to give back and to take back once `refunded` of the original's `whole` value has been returned. Both follow
-- from the cumulative value, so that many partial refunds sum to the whole exactly. A reversed refund in between may
-- leave one point of rounding in either direction; it is never given or taken below zero.
local function refund_shares(known, refunded, whole)
  local given = arithmetic.mul_div(known[SPENT], refunded, whole) - (known[SPENT] - known[NET_SPENT])
  local taken = known[NET_EARNED] - arithmetic.mul_div(known[EARNED], whole - refunded, whole)
  return given > 0 and given or 0, taken > 0 and taken or 0
end

local function write(account, request, entries, given, taken, held, owed, moves)
  local row = entry.append(
    account, entries, request, request.op, request.id, request.target, given - taken + owed, held, owed, moves
  )
  entry.remember(account, request.id)
  settle.expire_lots(account, request, entries, request.id)
  return row
end

function M.refund(account, request)
  local ended = unusable(account, request)
  if ended then
    return ended
  end
  local known = request.context
  local declined = refund_decline(known)
  if declined then
    return result.declined(account, request, declined)
  end
  local whole = known[AMOUNT] > 0 and known[AMOUNT] or known[SPENT]
  local left = whole - known[NET_REFUNDED]
  local amount = request.amount > 0 and request.amount or left
  if left <= 0 or amount > left then
    return result.declined(account, request, outcomes.REFUND_EXCEEDS)
  end
  local given, taken = refund_shares(known, known[NET_REFUNDED] + amount, whole)
  if not fits(account, request, given, taken) then
    return result.declined(account, request, outcomes.ACCOUNT_LIMIT)
  end
  local entries, moves = {}, {}
  settle.run(account, request, entries)
  local owed = exchange_points(account, request, given, taken, moves, entries)
  local row = write(account, request, entries, given, taken, 0, owed, moves)
  row[entry.SPENT], row[entry.EARNED] = -given, -taken
  row[entry.REFUNDED], row[entry.AMOUNT] = amount, amount
  return result.approved(account, request, outcomes.APPROVED, given, -taken, 0, entries)
end

local function reverse_decline(request, known)
  if request.target == request.id then
    return outcomes.ORIGINAL_UNSUITABLE
  end
  if known[FOUND] ~= 0 and not REVERSIBLE[known[OP]] then
    return outcomes.ORIGINAL_UNSUITABLE
  end
  return known[FOUND] == 2 and outcomes.ORIGINAL_OTHER_CARD or nil
end

-- A reversal without anything to undo: the target never came (a tombstone now stops it), or it was reversed before.
local function reverse_nothing(account, request)
  local entries = {}
  settle.run(account, request, entries)
  if request.context[FOUND] == 0 then
    entry.append(account, entries, request, operations.TOMBSTONE, request.target, false, 0, 0, 0, {})
    entry.remember(account, request.target)
  end
  write(account, request, entries, 0, 0, 0, 0, {})
  return result.approved(account, request, outcomes.APPROVED, 0, 0, 0, entries)
end

-- Frees what a hold still holds. Result: the points.
local function free_hold(account, request, moves)
  local index, hold = holds.find(account, request.target)
  if not index then
    return 0
  end
  local total = holds.total(hold)
  settle.end_hold(account, index, 0, moves)
  counters.give_back(account, hold[5], total)
  return total
end

-- Brings every sum over the target and what hangs on it to zero.
local function reverse_effect(account, request, known)
  local spent, earned = known[NET_SPENT], known[NET_EARNED]
  local given = (spent > 0 and spent or 0) + (earned < 0 and -earned or 0)
  local taken = (spent < 0 and -spent or 0) + (earned > 0 and earned or 0)
  if not fits(account, request, given, taken) then
    return result.declined(account, request, outcomes.ACCOUNT_LIMIT)
  end
  local entries, moves = {}, {}
  settle.run(account, request, entries)
  local freed = free_hold(account, request, moves)
  local owed = exchange_points(account, request, given, taken, moves, entries)
  if spent > 0 then
    counters.give_back(account, known[DAY], spent)
  end
  local row = write(account, request, entries, given, taken, -freed, owed, moves)
  row[entry.SPENT], row[entry.EARNED], row[entry.REFUNDED] = -spent, -earned, -known[NET_REFUNDED]
  local points = freed + (spent > 0 and spent or 0)
  return result.approved(account, request, outcomes.APPROVED, points, -earned, 0, entries)
end

function M.reverse(account, request)
  local ended = unusable(account, request)
  if ended then
    return ended
  end
  local known = request.context
  local declined = reverse_decline(request, known)
  if declined then
    return result.declined(account, request, declined)
  end
  if known[FOUND] == 0 or known[OP] == operations.TOMBSTONE or known[FATE] == operations.REVERSE then
    return reverse_nothing(account, request)
  end
  return reverse_effect(account, request, known)
end

return { [operations.REFUND] = M.refund, [operations.REVERSE] = M.reverse }
