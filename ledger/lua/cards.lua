-- ACTIVATE, BLOCK, UNBLOCK, REPLACE and LINK: what becomes of a card of the account.
-- activate(account, request), block(...), unblock(...), replace(...), link(...): arguments: state, request; result: the decision's result.
-- Token statuses: 0 issued, 1 active, 2 blocked, 3 replaced.
local M = {}
local char, sub = string.char, string.sub
local ISSUED, ACTIVE, BLOCKED, REPLACED = 0, 1, 2, 3
local CARD_DECLINE = {
  [ISSUED] = outcomes.CARD_INACTIVE,
  [BLOCKED] = outcomes.CARD_BLOCKED,
  [REPLACED] = outcomes.CARD_REPLACED,
}

-- Gives the card whose record begins at this position another status.
local function set_status(account, at, status)
  local tokens = account.tokens
  account.tokens = sub(tokens, 1, at + 15) .. char(status) .. sub(tokens, at + 17)
end

-- Writes the entry of a change that has been made to the tokens; `changes` is flat {token16, status, ...}.
local function approve(account, request, changes)
  local entries = {}
  settle.run(account, request, entries)
  local row = entry.append(account, entries, request, request.op, request.id, false, 0, 0, 0, {})
  row[entry.TOKENS] = changes
  entry.remember(account, request.id)
  return result.approved(account, request, outcomes.APPROVED, 0, 0, 0, entries)
end

-- What stands against changing a card, before the operation's own reason; own_decline may be nil.
local function declined_for(account, request, card_decline, own_decline)
  return card_decline or (account.status ~= 0 and outcomes.ACCOUNT_BLOCKED) or gate.sale(request) or own_decline
end

-- Makes a card that has the status `asleep` active.
local function wake(account, request, asleep)
  local status, at = gate.token_status(account, request.token)
  local declined
  if not request.permitted then
    declined = outcomes.NOT_PERMITTED
  elseif not status then
    declined = outcomes.UNKNOWN_CARD
  else
    local card_decline = status ~= asleep and CARD_DECLINE[status] or nil
    declined = declined_for(account, request, card_decline, status == ACTIVE and outcomes.ALREADY_ACTIVE or nil)
  end
  if declined then
    return result.declined(account, request, declined)
  end
  set_status(account, at, ACTIVE)
  return approve(account, request, { request.token, ACTIVE })
end

function M.activate(account, request)
  return wake(account, request, ISSUED)
end

-- An operator lets a blocked card work again.
function M.unblock(account, request)
  return wake(account, request, BLOCKED)
end

-- Blocking always works on a known card, also again; a replaced card stays replaced, which no operation accepts either.
function M.block(account, request)
  local declined = gate.owner(account, request)
  if declined then
    return result.declined(account, request, declined)
  end
  local status, at = gate.token_status(account, request.token)
  if status == REPLACED then
    return approve(account, request, {})
  end
  set_status(account, at, BLOCKED)
  return approve(account, request, { request.token, BLOCKED })
end

-- An operator lets one more card lead to the account, also while it is blocked.
function M.link(account, request)
  local new_token = request.new_token
  local declined
  if not request.permitted then
    declined = outcomes.NOT_PERMITTED
  elseif account.status == state.CLOSED then
    declined = outcomes.ACCOUNT_BLOCKED
  elseif request.new_token_state == 2 or gate.token_status(account, new_token) then
    declined = outcomes.CARD_IN_USE
  end
  if declined then
    return result.declined(account, request, declined)
  end
  account.tokens = account.tokens .. new_token .. char(ACTIVE)
  return approve(account, request, { new_token, ACTIVE })
end

function M.replace(account, request)
  local status, at = gate.token_status(account, request.token)
  local new_token = request.new_token
  local declined
  if not request.permitted then
    declined = outcomes.NOT_PERMITTED
  elseif not status then
    declined = outcomes.UNKNOWN_CARD
  else
    local card_decline = (status == ISSUED and outcomes.CARD_INACTIVE)
      or (status == REPLACED and outcomes.CARD_REPLACED)
      or nil
    local in_use = request.new_token_state == 2 or gate.token_status(account, new_token)
    declined = declined_for(account, request, card_decline, in_use and outcomes.CARD_IN_USE or nil)
  end
  if declined then
    return result.declined(account, request, declined)
  end
  set_status(account, at, REPLACED)
  account.tokens = account.tokens .. new_token .. char(ACTIVE)
  return approve(account, request, { request.token, REPLACED, new_token, ACTIVE })
end

return M
