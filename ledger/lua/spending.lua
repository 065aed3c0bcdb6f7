-- REDEEM, SALE and HOLD: points are spent or reserved, soonest-expiring first, within the network's terms.
-- redeem(account, request, terms), sale(...), hold(...): arguments: state, request, terms; result: the decision's result.
local M = {}
local MAX = arithmetic.MAX
local SHARE_BP, SCALE = terms.SHARE_BP, arithmetic.SCALE

-- The most that this receipt lets points pay, or nil when it sets no bound.
local function receipt_cap(request, network)
  local amount, share = request.amount, network[SHARE_BP]
  if share < SCALE then
    return arithmetic.mul_div(amount, share, SCALE)
  end
  if amount > 0 or request.op == operations.SALE then
    return amount
  end
  return nil
end

-- The most that the account may still spend today, or nil when the day sets no bound.
local function day_cap(account, request, network, due_points)
  local points_max, count_max = network[terms.DAY_POINTS_MAX], network[terms.DAY_COUNT_MAX]
  if points_max == 0 and count_max == 0 then
    return nil
  end
  local points, count = counters.used(account, request.today, due_points)
  if count_max > 0 and count >= count_max then
    return 0
  end
  if points_max == 0 then
    return nil
  end
  return points < points_max and points_max - points or 0
end

-- Points granted and 0, or the decline. A cap replaces another only when it is smaller, so that of equal caps the one
-- that comes first in the order of precedence names the decline. Without allow_partial the first cap that is too small does.
local function grant(account, request, network, available, due_points)
  local wanted, partial = request.points, request.partial
  local least = network[terms.REDEEM_MIN]
  least = least > 1 and least or 1
  if wanted < least then
    return 0, outcomes.BELOW_MINIMUM
  end
  local most, declined = wanted, 0
  local cap = network[terms.REDEEM_MAX]
  if cap > 0 and cap < most then
    most, declined = cap, outcomes.ABOVE_MAXIMUM
  end
  cap = receipt_cap(request, network)
  if cap and cap < most and (partial or declined == 0) then
    most, declined = cap, outcomes.ABOVE_SHARE
  end
  cap = day_cap(account, request, network, due_points)
  if cap and cap < most and (partial or declined == 0) then
    most, declined = cap, outcomes.ACCOUNT_LIMIT
  end
  cap = request.terminal_room
  if cap >= 0 and cap < most and (partial or declined == 0) then
    most, declined = cap, outcomes.TERMINAL_LIMIT
  end
  if available < most and (partial or declined == 0) then
    most, declined = available, outcomes.INSUFFICIENT
  end
  if declined == 0 or (partial and most >= least) then
    return most, 0
  end
  return 0, declined
end

local function settled(account, request, due)
  local entries = {}
  if due then
    settle.run(account, request, entries)
  end
  return entries
end

local function granted_outcome(request, points)
  return points < request.points and outcomes.APPROVED_PARTIAL or outcomes.APPROVED
end

function M.redeem(account, request, network)
  local declined = gate.card(account, request)
  if declined then
    return result.declined(account, request, declined)
  end
  local available, _, _, _, _, due, due_points = balance.measure(account, request.now_ms, request.today)
  local points
  points, declined = grant(account, request, network, available, due_points)
  if declined > 0 then
    return result.declined(account, request, declined)
  end
  local entries = settled(account, request, due)
  local moves = lots.draw(account.lots, points, request.today, false)
  counters.add(account, request.today, points)
  local row = entry.append(account, entries, request, operations.REDEEM, request.id, false, -points, 0, 0, moves)
  row[entry.SPENT], row[entry.AMOUNT] = points, request.amount
  entry.remember(account, request.id)
  return result.approved(account, request, granted_outcome(request, points), points, 0, 0, entries)
end

function M.hold(account, request, network)
  local declined = gate.card(account, request)
  if declined then
    return result.declined(account, request, declined)
  end
  if holds.open(account, request.now_ms) >= network[terms.HOLDS_MAX] then
    return result.declined(account, request, outcomes.TOO_MANY_HOLDS)
  end
  local available, _, _, _, _, due, due_points = balance.measure(account, request.now_ms, request.today)
  local points
  points, declined = grant(account, request, network, available, due_points)
  if declined > 0 then
    return result.declined(account, request, declined)
  end
  local entries, alloc = settled(account, request, due), {}
  local moves = lots.draw(account.lots, points, request.today, alloc)
  counters.add(account, request.today, points)
  local hold_ms = request.hold_ms > 0 and request.hold_ms or network[terms.HOLD_MS_DEFAULT]
  local until_ms = request.now_ms + math.min(hold_ms, network[terms.HOLD_MS_MAX])
  local open = account.holds
  open[#open + 1] = { request.id, until_ms, request.amount, alloc, account.day, request.partner }
  local row = entry.append(account, entries, request, operations.HOLD, request.id, false, 0, points, 0, moves)
  row[entry.AMOUNT] = request.amount
  entry.remember(account, request.id)
  return result.approved(account, request, granted_outcome(request, points), points, 0, until_ms, entries)
end

-- Spends and earns in one entry: what points paid for earns nothing.
local function apply_sale(account, request, points, earned, due)
  local entries, moves = settled(account, request, due), nil
  earning.make_room(account, request, entries)
  if points > 0 then
    moves = lots.draw(account.lots, points, request.today, false)
    counters.add(account, request.today, points)
  end
  moves = moves or {}
  local paid = earning.credit(account, request, earned, moves)
  local row = entry.append(
    account, entries, request, operations.SALE, request.id, false, earned - points - paid, 0, -paid, moves
  )
  entry.remember(account, request.id)
  settle.expire_lots(account, request, entries, request.id)
  return row, entries
end

function M.sale(account, request, network)
  local declined = gate.card(account, request)
  if declined then
    return result.declined(account, request, declined)
  end
  local available, held, pending, _, _, due, due_points = balance.measure(account, request.now_ms, request.today)
  local points = 0
  if request.points > 0 then
    points, declined = grant(account, request, network, available, due_points)
    if declined > 0 then
      return result.declined(account, request, declined)
    end
  end
  local earned = earning.earned_on(request, network, request.amount - points)
  if earned > MAX - (available + held + pending - points) then
    return result.declined(account, request, outcomes.ACCOUNT_LIMIT)
  end
  local row, entries = apply_sale(account, request, points, earned, due)
  row[entry.SPENT], row[entry.EARNED] = points, earned
  row[entry.AMOUNT], row[entry.ELIGIBLE] = request.amount, request.eligible
  row[entry.RATE_BP] = network[terms.EARN_RATE_BP]
  return result.approved(account, request, granted_outcome(request, points), points, earned, 0, entries)
end

return M
