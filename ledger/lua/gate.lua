-- The checks that stand before an operation's own, in the order of precedence.
-- token_status(account, token): result: status and index of the card on the account, or nil.
-- card(account, request): result: a decline for a card that may not be used, else nil (101 to 107).
-- owner(account, request): the same for operations that any card of the account may ask for, in whatever state it is.
-- sale(request): declines for a foreign currency or an impossible time of sale (108, 109), else nil.
local M = {}
local CARD_DECLINE = {
  [0] = outcomes.CARD_INACTIVE,
  [2] = outcomes.CARD_BLOCKED,
  [3] = outcomes.CARD_REPLACED,
}

function M.token_status(account, token)
  local tokens = account.tokens
  for i = 1, #tokens do
    if tokens[i][1] == token then
      return tokens[i][2], i
    end
  end
  return nil
end

function M.sale(request)
  if not request.currency_ok then
    return outcomes.WRONG_CURRENCY
  end
  if not request.time_ok then
    return outcomes.BAD_SALE_TIME
  end
  return nil
end

function M.owner(account, request)
  if not request.permitted then
    return outcomes.NOT_PERMITTED
  end
  if not M.token_status(account, request.token) then
    return outcomes.UNKNOWN_CARD
  end
  return M.sale(request)
end

function M.card(account, request)
  if not request.permitted then
    return outcomes.NOT_PERMITTED
  end
  local status = M.token_status(account, request.token)
  if not status then
    return outcomes.UNKNOWN_CARD
  end
  if status ~= 1 then
    return CARD_DECLINE[status]
  end
  if account.status ~= 0 then
    return outcomes.ACCOUNT_BLOCKED
  end
  return M.sale(request)
end

return M
