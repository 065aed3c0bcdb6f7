-- CAPTURE and RELEASE: how a hold ends by a request.
-- capture(account, request), release(account, request): arguments: state, request; result: the decision's result.
-- A hold is its partner's; an operator, who has partner 0, may release any.
-- A hold that is no longer in the state is looked up by the journal (context), for the sake of a truthful decline only.
local M = {}
local FOUND, OP, PARTNER, FATE = context.FOUND, context.OP, context.PARTNER, context.FATE
local OPERATOR = 0

local function others(partner, request)
  return partner ~= request.partner and request.partner ~= OPERATOR
end

-- Why a hold that is not in the state cannot be ended, by the order of precedence.
local function missing_hold(account, request)
  local known = request.context
  local found = known[FOUND]
  if found ~= 0 and others(known[PARTNER], request) then
    return outcomes.NOT_PERMITTED
  end
  local declined = gate.owner(account, request)
  if declined then
    return declined
  end
  if found == 0 then
    return outcomes.HOLD_UNKNOWN
  end
  if known[OP] ~= operations.HOLD and known[OP] ~= operations.TOMBSTONE then
    return outcomes.ORIGINAL_UNSUITABLE
  end
  if found == 2 then
    return outcomes.ORIGINAL_OTHER_CARD
  end
  return known[FATE] == operations.EXPIRE_HOLD and outcomes.HOLD_EXPIRED or outcomes.HOLD_CLOSED
end

-- Result: index and hold, or nil and the result that ends the decision.
local function open_hold(account, request)
  if not request.permitted then
    return nil, result.declined(account, request, outcomes.NOT_PERMITTED)
  end
  local index, hold = holds.find(account, request.target)
  if not index then
    local known = request.context
    if not known then
      return nil, result.undecided(account, result.NEED_CONTEXT)
    end
    if known[context.AS_OF_SEQ] ~= account.seq then
      return nil, result.undecided(account, result.STALE_CONTEXT)
    end
    return nil, result.declined(account, request, missing_hold(account, request))
  end
  if others(hold[6], request) then
    return nil, result.declined(account, request, outcomes.NOT_PERMITTED)
  end
  local declined = gate.owner(account, request)
  if not declined and hold[2] < request.now_ms then
    declined = outcomes.HOLD_EXPIRED
  end
  if declined then
    return nil, result.declined(account, request, declined)
  end
  return index, hold
end

-- Ends the hold with `points` of it spent, and what became free in expired lots expires.
local function finish(account, request, points)
  local entries, moves = {}, {}
  settle.run(account, request, entries)
  local index, hold = holds.find(account, request.target)
  local total = holds.total(hold)
  settle.end_hold(account, index, points, moves)
  counters.give_back(account, hold[5], total - points)
  local row = entry.append(
    account, entries, request, request.op, request.id, request.target, -points, -total, 0, moves
  )
  row[entry.SPENT] = points
  row[entry.AMOUNT] = request.amount
  if request.op == operations.CAPTURE and request.amount == 0 then
    row[entry.AMOUNT] = hold[3]
  end
  entry.remember(account, request.id)
  settle.expire_lots(account, request, entries, request.id)
  return entries
end

function M.capture(account, request)
  local index, hold = open_hold(account, request)
  if not index then
    return hold
  end
  local total = holds.total(hold)
  if request.points > total then
    return result.declined(account, request, outcomes.CAPTURE_EXCEEDS)
  end
  local points = request.points > 0 and request.points or total
  local entries = finish(account, request, points)
  return result.approved(account, request, outcomes.APPROVED, points, 0, 0, entries)
end

function M.release(account, request)
  local index, hold = open_hold(account, request)
  if not index then
    return hold
  end
  local total = holds.total(hold)
  return result.approved(account, request, outcomes.APPROVED, total, 0, 0, finish(account, request, 0))
end

return { [operations.CAPTURE] = M.capture, [operations.RELEASE] = M.release }
