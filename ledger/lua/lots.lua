-- Lots {from, until, free, held}: points that become spendable and expire together.
-- Arguments are the account's sorted array of lots; `moves` is the flat list of quads {from, until, free delta,
-- held delta} of the entry in the making, to which every change is noted.
--
-- find(lots, from, until): result: the lot or nil.
-- note(moves, from, until, free, held): adds the deltas to the lot's quad.
-- draw(lots, points, today, moves, alloc): takes spendable points, soonest-expiring first; alloc false spends them,
--   a table gets {from, until, points} and the points are held instead. The caller has checked that they are there.
-- add(lots, from, until, points, moves): puts points in; when the array is full, into a lot that expires later.
-- has_room(lots, from, until): whether add can do so without a lot too many.
-- joinable(lots): result: index of the lot to join to its successor when the array is full, or nil.
-- sweep(lots): drops empty lots.
local M = { MAX = 512 }
local NEVER = 9007199254740991

function M.find(lots, from_day, until_day)
  for i = 1, #lots do
    local lot = lots[i]
    if lot[2] == until_day and lot[1] == from_day then
      return lot
    end
  end
  return nil
end

function M.note(moves, from_day, until_day, free, held)
  local n = #moves
  for i = 1, n, 4 do
    if moves[i + 1] == until_day and moves[i] == from_day then
      moves[i + 2] = moves[i + 2] + free
      moves[i + 3] = moves[i + 3] + held
      return
    end
  end
  moves[n + 1], moves[n + 2], moves[n + 3], moves[n + 4] = from_day, until_day, free, held
end

function M.sweep(lots)
  local n, kept = #lots, 0
  for i = 1, n do
    local lot = lots[i]
    if lot[3] > 0 or lot[4] > 0 then
      kept = kept + 1
      lots[kept] = lot
    end
  end
  for i = n, kept + 1, -1 do
    lots[i] = nil
  end
end

function M.draw(lots, points, today, moves, alloc)
  local left, emptied, n = points, false, #moves
  for i = 1, #lots do
    local lot = lots[i]
    local from_day, until_day, free = lot[1], lot[2], lot[3]
    if free > 0 and from_day <= today and (until_day == 0 or until_day >= today) then
      local part = free < left and free or left
      left = left - part
      lot[3] = free - part
      if alloc then
        lot[4] = lot[4] + part
        alloc[#alloc + 1] = { from_day, until_day, part }
        moves[n + 1], moves[n + 2], moves[n + 3], moves[n + 4] = from_day, until_day, -part, part
      else
        emptied = emptied or (part == free and lot[4] == 0)
        moves[n + 1], moves[n + 2], moves[n + 3], moves[n + 4] = from_day, until_day, -part, 0
      end
      n = n + 4
      if left == 0 then
        break
      end
    end
  end
  assert(left == 0, "more points drawn than there are")
  if emptied then
    M.sweep(lots)
  end
end

-- Index at which a lot with this identity stands or would be inserted, searched from the end, where new lots belong.
local function place(lots, from_day, until_day)
  local key = until_day == 0 and NEVER or until_day
  local i = #lots
  while i > 0 do
    local lot = lots[i]
    local lot_key = lot[2] == 0 and NEVER or lot[2]
    if lot_key < key or (lot_key == key and lot[1] < from_day) then
      break
    end
    i = i - 1
  end
  return i + 1
end

-- A lot that expires later and is spendable no later: points that join it lose nothing.
local function later_lot(lots, index, from_day)
  for i = index, #lots do
    if lots[i][1] <= from_day then
      return lots[i]
    end
  end
  return nil
end

function M.has_room(lots, from_day, until_day)
  if #lots < M.MAX then
    return true
  end
  local index = place(lots, from_day, until_day)
  local lot = lots[index]
  return (lot and lot[1] == from_day and lot[2] == until_day) or later_lot(lots, index, from_day) ~= nil
end

function M.add(lots, from_day, until_day, points, moves)
  local index = place(lots, from_day, until_day)
  local lot = lots[index]
  if not (lot and lot[1] == from_day and lot[2] == until_day) then
    lot = #lots >= M.MAX and later_lot(lots, index, from_day)
    if not lot then
      lot = { from_day, until_day, 0, 0 }
      table.insert(lots, index, lot)
    end
  end
  lot[3] = lot[3] + points
  M.note(moves, lot[1], lot[2], points, 0)
end

-- The pair with the smallest gap in expiry, so that lots thin out evenly and no lot is put off day after day.
function M.joinable(lots, today)
  local best, best_gap = nil, nil
  for i = 1, #lots - 1 do
    local lot, later = lots[i], lots[i + 1]
    if lot[4] == 0 and (later[1] <= lot[1] or later[1] <= today) then
      local gap = (later[2] == 0 and NEVER or later[2]) - (lot[2] == 0 and NEVER or lot[2])
      if not best or gap < best_gap then
        best, best_gap = i, gap
      end
    end
  end
  return best
end

return M
