-- ACTIVATE, BLOCK, UNBLOCK, REPLACE, LINK and UNLINK: what becomes of a card of the account.
-- activate(account, request), block(...), unblock(...), replace(...), link(...), unlink(...): arguments: state, request; result: the
--   decision's result.
-- bring(account, token, status): lets a card lead to the account that leads elsewhere, or nowhere, by now.
-- Token statuses: 0 issued, 1 active, 2 blocked, 3 replaced. In an entry alone, 4: the card leads to the account no more.
local M = {}
local char, sub = string.char, string.sub
local ISSUED, ACTIVE, BLOCKED, REPLACED, GONE = 0, 1, 2, 3, 4
-- What the journal says of a card (request.lua).
local ELSEWHERE = 2
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

local function remove(account, at)
  account.tokens = sub(account.tokens, 1, at - 1) .. sub(account.tokens, at + state.TOKEN_BYTES)
end

function M.bring(account, token, status)
  local _, at = gate.token_status(account, token)
  if at then
    -- It was issued to this account once and moved on before it was used.
    remove(account, at)
  end
  account.tokens = account.tokens .. token .. char(status)
end

-- Whether a card that is to come leads to somebody. One that was issued here and is not in use by what the journal says has
-- moved on from here, and was taken from whoever got it.
local function in_use(account, request)
  local status = gate.token_status(account, request.new_token)
  return request.new_token_state == ELSEWHERE or (status ~= nil and status ~= ISSUED)
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
  elseif in_use(account, request) then
    declined = outcomes.CARD_IN_USE
  end
  if declined then
    return result.declined(account, request, declined)
  end
  M.bring(account, new_token, ACTIVE)
  return approve(account, request, { new_token, ACTIVE })
end

-- An operator takes a card from the account, whatever its status, so that it is nobody's. The account is named, and the card is
-- the target: by the time of a repetition it may be somebody else's.
function M.unlink(account, request)
  local token = request.target
  local status, at = gate.token_status(account, token)
  local declined
  if not request.permitted then
    declined = outcomes.NOT_PERMITTED
  elseif not status or request.new_token_state == ELSEWHERE then
    declined = outcomes.UNKNOWN_CARD
  end
  if declined then
    return result.declined(account, request, declined)
  end
  remove(account, at)
  return approve(account, request, { token, GONE })
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
    declined = declined_for(account, request, card_decline, in_use(account, request) and outcomes.CARD_IN_USE or nil)
  end
  if declined then
    return result.declined(account, request, declined)
  end
  set_status(account, at, REPLACED)
  M.bring(account, new_token, ACTIVE)
  return approve(account, request, { request.token, REPLACED, new_token, ACTIVE })
end

return {
  bring = M.bring,
  [operations.ACTIVATE] = M.activate,
  [operations.BLOCK] = M.block,
  [operations.REPLACE] = M.replace,
  [operations.UNBLOCK] = M.unblock,
  [operations.LINK] = M.link,
  [operations.UNLINK] = M.unlink,
}
