-- What an operator does to a whole account: it is blocked and unblocked, and becomes part of another one by two entries.
-- Arguments: none. Result: the handlers by operation; their arguments: state, request; their result: the decision's result.
-- give_up empties and closes the source; its entry says what was there. take_in puts exactly that into the target, whose
-- request names the source's as its target. Both need the journal's context, as new as the state.
local MAX = arithmetic.MAX
local TOKEN_BYTES, OPEN, BLOCKED, CLOSED = state.TOKEN_BYTES, state.OPEN, state.BLOCKED, state.CLOSED
local byte, sub = string.byte, string.sub

-- A result that ends the decision before anything is looked at, or nil.
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
  return account.status ~= OPEN and result.declined(account, request, outcomes.ACCOUNT_BLOCKED) or nil
end

-- The account's cards as {token, status, ...}, without those that lead elsewhere by now: they were issued and never used,
-- and replaced a card of somebody else while this account had no entry that could have said so.
local function cards_of(account, moved_on)
  local elsewhere, found, tokens = {}, {}, account.tokens
  for i = 1, #moved_on do
    elsewhere[moved_on[i]] = true
  end
  for at = 1, #tokens, TOKEN_BYTES do
    local token = sub(tokens, at, at + 15)
    if not elsewhere[token] then
      found[#found + 1] = token
      found[#found + 1] = byte(tokens, at + 16)
    end
  end
  return found
end

local function give_up(account, request)
  local ended = unusable(account, request)
  if ended then
    return ended
  end
  if holds.open(account, request.now_ms) > 0 then
    return result.declined(account, request, outcomes.TOO_MANY_HOLDS)
  end
  local entries, moves, points = {}, {}, 0
  settle.run(account, request, entries)
  local all, owed = account.lots, account.owed
  for i = 1, #all, 4 do
    moves[i], moves[i + 1], moves[i + 2], moves[i + 3] = all[i], all[i + 1], -all[i + 2], 0
    points = points + all[i + 2]
  end
  local row = entry.append(account, entries, request, request.op, request.id, false, -points, 0, -owed, moves)
  row[entry.EARNED] = owed - points
  row[entry.TOKENS] = cards_of(account, request.context[context.CARDS])
  account.lots, account.tokens, account.status = {}, '', CLOSED
  entry.remember(account, request.id)
  return result.approved(account, request, outcomes.APPROVED, 0, owed - points, 0, entries)
end

-- What stands against taking in what the target request took out of its account.
local function take_in_decline(account, request, points, owed)
  local known = request.context
  if known[context.FOUND] == 0 then
    return outcomes.ORIGINAL_UNKNOWN
  end
  -- What was taken in once is not there any more, whoever took it.
  if known[context.OP] ~= operations.MERGE_OUT or known[context.FATE] == operations.MERGE_IN then
    return outcomes.ORIGINAL_UNSUITABLE
  end
  local available, held, pending = balance.measure(account, request.now_ms, request.today)
  local too_much = points > MAX - (available + held + pending) or owed > MAX - account.owed
  return too_much and outcomes.ACCOUNT_LIMIT or nil
end

local function take_in(account, request)
  local ended = unusable(account, request)
  if ended then
    return ended
  end
  local known = request.context
  local taken, points = known[context.NET_MOVES], 0
  for i = 1, #taken, 4 do
    points = points - taken[i + 2]
  end
  local owed = known[context.EARNED] + points
  local declined = take_in_decline(account, request, points, owed)
  if declined then
    return result.declined(account, request, declined)
  end
  local entries, moves = {}, {}
  settle.run(account, request, entries)
  for i = 1, #taken, 4 do
    lots.put(account.lots, taken[i], taken[i + 1], -taken[i + 2])
    moves[i], moves[i + 1], moves[i + 2], moves[i + 3] = taken[i], taken[i + 1], -taken[i + 2], 0
  end
  local row = entry.append(account, entries, request, request.op, request.id, request.target, points, 0, owed, moves)
  local brought = known[context.CARDS]
  row[entry.EARNED], row[entry.TOKENS] = points - owed, brought
  for i = 1, #brought, 2 do
    cards().bring(account, brought[i], brought[i + 1])
  end
  entry.remember(account, request.id)
  -- Requests that were made of the source are asked for here from now on, and this ring does not know them.
  account.forgot = 1
  settle.expire_lots(account, request, entries, request.id)
  earning.thin(account, request, entries)
  return result.approved(account, request, outcomes.APPROVED, 0, points - owed, 0, entries)
end

-- Blocks or unblocks an account; to do so again does no harm.
local function set_status(account, request, status)
  if not request.permitted then
    return result.declined(account, request, outcomes.NOT_PERMITTED)
  end
  if account.status == CLOSED then
    return result.declined(account, request, outcomes.ACCOUNT_BLOCKED)
  end
  local entries = {}
  settle.run(account, request, entries)
  account.status = status
  entry.append(account, entries, request, request.op, request.id, false, 0, 0, 0, {})
  entry.remember(account, request.id)
  return result.approved(account, request, outcomes.APPROVED, 0, 0, 0, entries)
end

return {
  [operations.MERGE_OUT] = give_up,
  [operations.MERGE_IN] = take_in,
  [operations.BLOCK_ACCOUNT] = function(account, request)
    return set_status(account, request, BLOCKED)
  end,
  [operations.UNBLOCK_ACCOUNT] = function(account, request)
    return set_status(account, request, OPEN)
  end,
}
