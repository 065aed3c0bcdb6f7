-- Points that come in: EARN and ADJUST, and what SALE and MERGE_IN share with them.
-- earned_on(request, terms, base_max): result: points earned on the eligible part of at most base_max.
-- credit(account, request, points, moves): puts points into the lot of the request's days after what is owed is paid.
--   Result: points of owed paid, not yet taken off account.owed.
-- make_room(account, request, entries): joins two neighbouring lots by an entry of its own when the lots are full.
-- thin(account, request, entries): joins lots by one entry until there are no more than may be.
-- earn(account, request, terms), adjust(account, request): arguments: state, request; result: the decision's result.
local M = {}
local MAX = arithmetic.MAX

function M.earned_on(request, network, base_max)
  local base = request.eligible
  if base < 0 or base > base_max then
    base = base_max
  end
  return arithmetic.mul_div(base, network[terms.EARN_RATE_BP], arithmetic.SCALE)
end

function M.credit(account, request, points, moves)
  local paid = account.owed < points and account.owed or points
  if points > paid then
    lots.add(account.lots, request.active_day, request.expiry_day, points - paid, moves)
  end
  return paid
end

function M.make_room(account, request, entries)
  local all = account.lots
  while not lots.has_room(all, request.active_day, request.expiry_day) do
    local index = lots.joinable(all, request.today)
    if not index then
      return
    end
    local moves = {}
    lots.join(all, index, moves)
    entry.append(account, entries, request, operations.EXPIRE_LOTS, false, false, 0, 0, 0, moves)
  end
end

function M.thin(account, request, entries)
  local all, moves = account.lots, {}
  while #all > lots.MAX * 4 do
    local index = lots.joinable(all, request.today)
    if not index then
      break
    end
    lots.join(all, index, moves)
  end
  if #moves > 0 then
    entry.append(account, entries, request, operations.EXPIRE_LOTS, false, false, 0, 0, 0, moves)
  end
end

-- Settles, credits the points and writes the entry; the caller has decided that they may come in.
local function apply(account, request, earned, due)
  local entries, moves = {}, {}
  if due then
    settle.run(account, request, entries)
  end
  M.make_room(account, request, entries)
  local paid = M.credit(account, request, earned, moves)
  local row = entry.append(
    account, entries, request, request.op, request.id, false, earned - paid, 0, -paid, moves
  )
  row[entry.EARNED] = earned
  entry.remember(account, request.id)
  settle.expire_lots(account, request, entries, request.id)
  return row, entries
end

function M.earn(account, request, network)
  local declined = gate.card(account, request)
  if declined then
    return result.declined(account, request, declined)
  end
  local earned = M.earned_on(request, network, request.amount)
  local available, held, pending, _, _, due = balance.measure(account, request.now_ms, request.today)
  if earned > MAX - (available + held + pending) then
    return result.declined(account, request, outcomes.ACCOUNT_LIMIT)
  end
  local row, entries = apply(account, request, earned, due)
  row[entry.AMOUNT], row[entry.ELIGIBLE] = request.amount, request.eligible
  row[entry.RATE_BP] = network[terms.EARN_RATE_BP]
  return result.approved(account, request, outcomes.APPROVED, 0, earned, 0, entries)
end

-- Takes points away: soonest-expiring first, pending ones too, and what is missing becomes owed.
local function debit(account, request, points, due)
  local entries, moves = {}, {}
  if due then
    settle.run(account, request, entries)
  end
  local missing = exchange().take(account, points, {}, moves)
  local row = entry.append(
    account, entries, request, request.op, request.id, false, missing - points, 0, missing, moves
  )
  row[entry.EARNED] = -points
  entry.remember(account, request.id)
  return row, entries
end

function M.adjust(account, request)
  if not request.permitted then
    return result.declined(account, request, outcomes.NOT_PERMITTED)
  end
  if account.status == state.CLOSED then
    return result.declined(account, request, outcomes.ACCOUNT_BLOCKED)
  end
  local points = request.points
  local available, held, pending, _, _, due = balance.measure(account, request.now_ms, request.today)
  if points > MAX - (available + held + pending) or -points > MAX - account.owed then
    return result.declined(account, request, outcomes.ACCOUNT_LIMIT)
  end
  local entries, _
  if points >= 0 then
    _, entries = apply(account, request, points, due)
  else
    _, entries = debit(account, request, -points, due)
  end
  return result.approved(account, request, outcomes.APPROVED, 0, points, 0, entries)
end

return M
