-- Holds {id, until_ms, amount, alloc, day, partner} of an account.
-- find(account, id): result: index and hold, or nil.
-- total(hold): result: points held.
-- open(account, now_ms): result: how many holds have not timed out.
local M = {}

function M.find(account, id)
  local all = account.holds
  for i = 1, #all do
    if all[i][1] == id then
      return i, all[i]
    end
  end
  return nil
end

function M.total(hold)
  local alloc, sum = hold[4], 0
  for i = 1, #alloc do
    sum = sum + alloc[i][3]
  end
  return sum
end

function M.open(account, now_ms)
  local all, n = account.holds, 0
  for i = 1, #all do
    if all[i][2] >= now_ms then
      n = n + 1
    end
  end
  return n
end

return M
