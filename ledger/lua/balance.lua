-- The balance as it is at one moment, without touching the state: what is due to expire counts as expired.
-- measure(account, now_ms, today): result: available, held, pending, points that expire next, their last day (0 when
--   none ever expires), whether anything is due to be settled, points of today's counters that due holds give back.
-- view(account, now_ms, today): result: {available, held, pending, owed, expiring, expiring_day}.
local M = {}

-- Adds what the holds that have timed out give back to the lots' sums.
local function add_due_holds(account, now_ms, today, available, pending, expiring, expiring_day, due)
  local held, due_points = account.held, 0
  local holds = account.holds
  for i = 1, #holds do
    local hold = holds[i]
    if hold[2] < now_ms then
      due = true
      local alloc = hold[4]
      for j = 1, #alloc do
        local from_day, until_day, points = alloc[j][1], alloc[j][2], alloc[j][3]
        held = held - points
        due_points = hold[5] == account.day and due_points + points or due_points
        if until_day == 0 or until_day >= today then
          if from_day > today then
            pending = pending + points
          else
            available = available + points
            if until_day ~= 0 and (expiring_day == 0 or until_day < expiring_day) then
              expiring, expiring_day = points, until_day
            elseif until_day ~= 0 and until_day == expiring_day then
              expiring = expiring + points
            end
          end
        end
      end
    end
  end
  return available, held, pending, expiring, expiring_day, due, due_points
end

function M.measure(account, now_ms, today)
  local available, pending, expiring, expiring_day, due = 0, 0, 0, 0, false
  local lots = account.lots
  for i = 1, #lots, 4 do
    local free = lots[i + 2]
    if free > 0 then
      local until_day = lots[i + 1]
      if until_day ~= 0 and until_day < today then
        due = true
      elseif lots[i] > today then
        pending = pending + free
      else
        available = available + free
        if until_day ~= 0 and (expiring_day == 0 or expiring_day == until_day) then
          expiring, expiring_day = expiring + free, until_day
        end
      end
    end
  end
  if #account.holds == 0 then
    return available, account.held, pending, expiring, expiring_day, due, 0
  end
  return add_due_holds(account, now_ms, today, available, pending, expiring, expiring_day, due)
end

function M.view(account, now_ms, today)
  local available, held, pending, expiring, expiring_day = M.measure(account, now_ms, today)
  return { available, held, pending, account.owed, expiring, expiring_day }
end

return M
