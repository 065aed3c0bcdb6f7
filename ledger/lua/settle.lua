-- What time alone has done to an account: holds that timed out, lots that expired.
-- run(account, request, entries): expires due holds, then due lots, and appends their entries.
-- expire_lots(account, request, entries, target): expires due lots by one entry; target is the request that put points
--   into a lot already expired, false when time has passed.
-- end_hold(account, index, keep, moves): takes the hold at `index` off the account, spends `keep` of its points
--   soonest-expiring first and frees the rest.
local M = {}

function M.end_hold(account, index, keep, moves)
  local hold = table.remove(account.holds, index)
  local alloc, account_lots = hold[4], account.lots
  local swept = false
  for i = 1, #alloc do
    local from_day, until_day, points = alloc[i][1], alloc[i][2], alloc[i][3]
    local spent = keep < points and keep or points
    keep = keep - spent
    local lot = lots.find(account_lots, from_day, until_day)
    local free, held = account_lots[lot + 2] + points - spent, account_lots[lot + 3] - points
    account_lots[lot + 2], account_lots[lot + 3] = free, held
    swept = swept or (free == 0 and held == 0)
    lots.note(moves, from_day, until_day, points - spent, -points)
  end
  if swept then
    lots.sweep(account_lots)
  end
end

function M.expire_lots(account, request, entries, target)
  local account_lots, today = account.lots, request.today
  local moves, total = nil, 0
  for i = 1, #account_lots, 4 do
    local until_day, free = account_lots[i + 1], account_lots[i + 2]
    if until_day == 0 or until_day >= today then
      break
    end
    if free > 0 then
      moves = moves or {}
      total = total + free
      account_lots[i + 2] = 0
      lots.note(moves, account_lots[i], until_day, -free, 0)
    end
  end
  if moves then
    lots.sweep(account_lots)
    entry.append(account, entries, request, operations.EXPIRE_LOTS, false, target, -total, 0, 0, moves)
  end
end

function M.run(account, request, entries)
  local account_holds, i = account.holds, 1
  while i <= #account_holds do
    local hold = account_holds[i]
    if hold[2] < request.now_ms then
      local moves, total = {}, holds.total(hold)
      M.end_hold(account, i, 0, moves)
      counters.give_back(account, hold[5], total)
      entry.append(account, entries, request, operations.EXPIRE_HOLD, false, hold[1], 0, -total, 0, moves)
    else
      i = i + 1
    end
  end
  M.expire_lots(account, request, entries, false)
end

return M
