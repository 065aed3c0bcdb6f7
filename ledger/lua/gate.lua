-- The checks that stand before an operation's own, in the order of precedence.
-- token_status(account, token): result: status of the card on the account and the position of its record, or nil.
-- card(account, request): result: a decline for a card that may not be used, else nil (101 to 107).
-- owner(account, request): the same for operations that any card of the account may ask for, in whatever state it is, also one
--   that led here once (then the request names none), and an operator by the account alone.
-- sale(request): declines for a foreign currency or an impossible time of sale (108, 109), else nil.
local M = {}
local byte = string.byte
local CARD_DECLINE = {
  [0] = outcomes.CARD_INACTIVE,
  [2] = outcomes.CARD_BLOCKED,
  [3] = outcomes.CARD_REPLACED,
}

function M.token_status(account, token)
  local at = records.find(account.tokens, state.TOKEN_BYTES, token)
  if at then
    return byte(account.tokens, at + 16), at
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
  if request.token then
    if not M.token_status(account, request.token) then
      return outcomes.UNKNOWN_CARD
    end
  elseif account.status == state.CLOSED then
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
