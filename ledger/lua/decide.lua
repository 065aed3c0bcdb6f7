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

-- So rare that its functions are made when they are needed: whatever is made at the beginning is made in every script call.
local function whole_account(account, request)
  return merging()[request.op](account, request)
end

local HANDLERS = {
  [operations.BALANCE] = read_balance,
  [operations.REDEEM] = spending.redeem,
  [operations.HOLD] = spending.hold,
  [operations.CAPTURE] = holding.capture,
  [operations.RELEASE] = holding.release,
  [operations.EARN] = earning.earn,
  [operations.SALE] = spending.sale,
  [operations.REFUND] = undoing.refund,
  [operations.REVERSE] = undoing.reverse,
  [operations.ACTIVATE] = cards.activate,
  [operations.BLOCK] = cards.block,
  [operations.REPLACE] = cards.replace,
  [operations.SETTLE] = settle_only,
  [operations.ADJUST] = earning.adjust,
  [operations.UNBLOCK] = cards.unblock,
  [operations.LINK] = cards.link,
  [operations.UNLINK] = cards.unlink,
  [operations.MERGE_OUT] = whole_account,
  [operations.MERGE_IN] = whole_account,
  [operations.BLOCK_ACCOUNT] = whole_account,
  [operations.UNBLOCK_ACCOUNT] = whole_account,
}

function M.run(account, request, network)
  local id = request.id
  if id and entry.remembers(account, id) then
    return result.undecided(account, result.REPLAY)
  end
  local handler = HANDLERS[request.op]
  if not handler then
    error("unknown operation " .. tostring(request.op))
  end
  return handler(account, request, network)
end

return M
