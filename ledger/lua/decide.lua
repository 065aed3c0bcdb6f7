-- The decision: what one request does to one account.
-- run(account, request, terms): arguments: the unpacked state, the request, the network's terms
--   as an array; result: see result.lua. The state is changed if, and only if, the result carries entries.
-- Order: a known request id is a replay; then the operation checks, by the precedence of outcomes; only an approval
-- settles what time has done, changes the state and writes entries. A decline leaves no trace.
local M = {}

local function read_balance(account, request)
  local declined = gate.card(account, request)
  if declined then
    return result.declined(account, request, declined)
  end
  return result.approved(account, request, outcomes.APPROVED, 0, 0, 0, {})
end

local function settle_only(account, request)
  local entries = {}
  settle.run(account, request, entries)
  return result.approved(account, request, outcomes.APPROVED, 0, 0, 0, entries)
end

local HANDLERS = {
  [operations.BALANCE] = read_balance,
  [operations.REDEEM] = spending.redeem,
  [operations.HOLD] = spending.hold,
  [operations.EARN] = earning.earn,
  [operations.SALE] = spending.sale,
  [operations.SETTLE] = settle_only,
  [operations.ADJUST] = earning.adjust,
}

-- Whatever is made at the beginning is made in every script call. So these modules, which few calls need, are made when
-- they are used (see decision.py), and have their handlers by operation.
local MADE_WHEN_USED = {
  [operations.CAPTURE] = holding,
  [operations.RELEASE] = holding,
  [operations.REFUND] = undoing,
  [operations.REVERSE] = undoing,
  [operations.ACTIVATE] = cards,
  [operations.BLOCK] = cards,
  [operations.REPLACE] = cards,
  [operations.UNBLOCK] = cards,
  [operations.LINK] = cards,
  [operations.UNLINK] = cards,
  [operations.MERGE_OUT] = merging,
  [operations.MERGE_IN] = merging,
  [operations.BLOCK_ACCOUNT] = merging,
  [operations.UNBLOCK_ACCOUNT] = merging,
}

local function handler_of(op)
  local module = MADE_WHEN_USED[op]
  if not module then
    error("unknown operation " .. tostring(op))
  end
  return module()[op]
end

function M.run(account, request, network)
  local id = request.id
  if id and entry.remembers(account, id) then
    return result.undecided(account, result.REPLAY)
  end
  local handler = HANDLERS[request.op] or handler_of(request.op)
  return handler(account, request, network)
end

return M
