-- What an account has spent on its current day, against the day's limits.
-- A clock that steps back (a server slightly behind, around midnight) never opens a new day: the later day counts on.
-- used(account, today, due_points): result: points and number of redemptions that count today, where due_points are
--   held points of the day that a hold about to expire gives back.
-- add(account, today, points): counts one redemption or hold.
-- give_back(account, day, points): points of that day did not stand after all. The number of redemptions stays.
local M = {}
local MAX = arithmetic.MAX

function M.used(account, today, due_points)
  if today > account.day then
    return 0, 0
  end
  local points = account.day_points - due_points
  return points > 0 and points or 0, account.day_count
end

function M.add(account, today, points)
  if today > account.day then
    account.day, account.day_points, account.day_count = today, 0, 0
  end
  local sum = account.day_points + points
  account.day_points = sum < MAX and sum or MAX
  account.day_count = account.day_count + 1
end

function M.give_back(account, day, points)
  if day == account.day then
    local rest = account.day_points - points
    account.day_points = rest > 0 and rest or 0
  end
end

return M
