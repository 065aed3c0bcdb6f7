-- Lots {from, until, free, held}: points that become spendable and expire together.
-- Arguments are the account's sorted lots, flat quads; a lot is named by the index of its first number. `moves` is the
-- flat list of quads {from, until, free delta, held delta} of the entry in the making, to which every change is noted.
--
-- find(lots, from, until): result: the lot's index or nil.
-- note(moves, from, until, free, held): adds the deltas to the lot's quad.
-- draw(lots, points, today, alloc): takes spendable points, soonest-expiring first; alloc false spends them, a table gets
--   {from, until, points} and the points are held instead. The caller has checked that they are there. Result: the moves.
-- add(lots, from, until, points, moves): puts points in; when the lots are full, into a lot that expires later.
-- put(lots, from, until, points): puts points into exactly this lot, also when the lots are full; notes nothing.
-- has_room(lots, from, until): whether add can do so without a lot too many.
-- joinable(lots): result: index of the lot to join to its successor when the lots are full, or nil.
-- join(lots, index, moves): puts what is free in a lot into its successor and takes the lot out.
-- remove(lots, index): takes a lot out.
-- sweep(lots): drops empty lots.
local M = { MAX = 512 }
local NUMBERS_MAX = M.MAX * 4
local NEVER = 9007199254740991

function M.find(lots, from_day, until_day)
  for i = 1, #lots, 4 do
    if lots[i + 1] == until_day and lots[i] == from_day then
      return i
    end
  end
  return nil
end

function M.note(moves, from_day, until_day, free, held)
  local i = M.find(moves, from_day, until_day)
  if i then
    moves[i + 2] = moves[i + 2] + free
    moves[i + 3] = moves[i + 3] + held
    return
  end
  local n = #moves
  moves[n + 1], moves[n + 2], moves[n + 3], moves[n + 4] = from_day, until_day, free, held
end

local function shorten(lots, length)
  for i = #lots, length + 1, -1 do
    lots[i] = nil
  end
end

function M.remove(lots, index)
  local n = #lots
  for i = index, n - 4 do
    lots[i] = lots[i + 4]
  end
  shorten(lots, n - 4)
end

function M.sweep(lots)
  local kept = 0
  for i = 1, #lots, 4 do
    if lots[i + 2] > 0 or lots[i + 3] > 0 then
      if kept < i - 1 then
        lots[kept + 1], lots[kept + 2], lots[kept + 3], lots[kept + 4] = lots[i], lots[i + 1], lots[i + 2], lots[i + 3]
      end
      kept = kept + 4
    end
  end
  shorten(lots, kept)
end

function M.draw(lots, points, today, alloc)
  local left, emptied, moves, n = points, false, nil, 0
  for i = 1, #lots, 4 do
    local from_day, until_day, free = lots[i], lots[i + 1], lots[i + 2]
    if free > 0 and from_day <= today and (until_day == 0 or until_day >= today) then
      local part = free < left and free or left
      left = left - part
      lots[i + 2] = free - part
      if alloc then
        lots[i + 3] = lots[i + 3] + part
        alloc[#alloc + 1] = { from_day, until_day, part }
      else
        emptied = emptied or (part == free and lots[i + 3] == 0)
      end
      local held = alloc and part or 0
      if n == 0 then
        moves = { from_day, until_day, -part, held }
      else
        moves[n + 1], moves[n + 2], moves[n + 3], moves[n + 4] = from_day, until_day, -part, held
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
  return moves
end

-- Index at which a lot with this identity stands or would be inserted, searched from the end, where new lots belong.
local function place(lots, from_day, until_day)
  local key = until_day == 0 and NEVER or until_day
  local i = #lots - 3
  while i > 0 do
    local lot_key = lots[i + 1] == 0 and NEVER or lots[i + 1]
    if lot_key < key or (lot_key == key and lots[i] < from_day) then
      break
    end
    i = i - 4
  end
  return i + 4
end

-- A lot that expires later and is spendable no later: points that join it lose nothing.
local function later_lot(lots, index, from_day)
  for i = index, #lots, 4 do
    if lots[i] <= from_day then
      return i
    end
  end
  return nil
end

local function insert(lots, index, from_day, until_day)
  local n = #lots
  -- The end grows one by one, so that the numbers stay in the array part of the table.
  for i = n + 1, n + 4 do
    lots[i] = 0
  end
  for i = n, index, -1 do
    lots[i + 4] = lots[i]
  end
  lots[index], lots[index + 1], lots[index + 2], lots[index + 3] = from_day, until_day, 0, 0
end

function M.has_room(lots, from_day, until_day)
  if #lots < NUMBERS_MAX then
    return true
  end
  local index = place(lots, from_day, until_day)
  return (lots[index] == from_day and lots[index + 1] == until_day) or later_lot(lots, index, from_day) ~= nil
end

function M.add(lots, from_day, until_day, points, moves)
  local index = place(lots, from_day, until_day)
  if not (lots[index] == from_day and lots[index + 1] == until_day) then
    local later = #lots >= NUMBERS_MAX and later_lot(lots, index, from_day)
    if later then
      index = later
    else
      insert(lots, index, from_day, until_day)
    end
  end
  lots[index + 2] = lots[index + 2] + points
  M.note(moves, lots[index], lots[index + 1], points, 0)
end

function M.put(lots, from_day, until_day, points)
  local index = place(lots, from_day, until_day)
  if not (lots[index] == from_day and lots[index + 1] == until_day) then
    insert(lots, index, from_day, until_day)
  end
  lots[index + 2] = lots[index + 2] + points
end

function M.join(lots, index, moves)
  local later, free = index + 4, lots[index + 2]
  M.note(moves, lots[index], lots[index + 1], -free, 0)
  M.note(moves, lots[later], lots[later + 1], free, 0)
  lots[later + 2] = lots[later + 2] + free
  M.remove(lots, index)
end

-- The pair with the smallest gap in expiry, so that lots thin out evenly and no lot is put off day after day.
function M.joinable(lots, today)
  local best, best_gap = nil, nil
  for i = 1, #lots - 4, 4 do
    local later_from, later_until = lots[i + 4], lots[i + 5]
    if lots[i + 3] == 0 and (later_from <= lots[i] or later_from <= today) then
      local gap = (later_until == 0 and NEVER or later_until) - (lots[i + 1] == 0 and NEVER or lots[i + 1])
      if not best or gap < best_gap then
        best, best_gap = i, gap
      end
    end
  end
  return best
end

return M
