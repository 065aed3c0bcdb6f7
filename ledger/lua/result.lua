-- The positional result of a decision: {status, outcome, points, earned, balance, detail, entries, account, doubtful}.
-- Statuses: DECIDED, REPLAY (the journal has the answer), NEED_CONTEXT and STALE_CONTEXT (ask the journal, then again).
-- approved(account, request, outcome, points, earned, detail, entries): after the effect.
-- declined(account, request, outcome): the account is untouched; the balance is what it would be once settled. Doubtful when
--   the ring has forgotten requests: this id may have been approved before.
-- undecided(account, status): nothing was decided.
local M = { DECIDED = 0, REPLAY = 1, NEED_CONTEXT = 2, STALE_CONTEXT = 3 }

function M.approved(account, request, outcome, points, earned, detail, entries)
  local view = balance.view(account, request.now_ms, request.today)
  return { 0, outcome, points, earned, view, detail, entries, account.account, 0 }
end

function M.declined(account, request, outcome)
  local view = balance.view(account, request.now_ms, request.today)
  local doubtful = request.op ~= operations.BALANCE and account.forgot or 0
  return { 0, outcome, 0, 0, view, 0, {}, account.account, doubtful }
end

function M.undecided(account, status)
  return { status, 0, 0, 0, { 0, 0, 0, 0, 0, 0 }, 0, {}, account.account, 0 }
end

return M
