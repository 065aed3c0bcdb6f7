-- Records of one width in a string, each of which begins with a 16-byte id: the ring's requests, an account's cards.
-- find(records, width, id): result: the position of the record's first byte, or nil.
local M = {}
local find = string.find

function M.find(records, width, id)
  local at = find(records, id, 1, true)
  -- What lies across two records is nobody's id.
  while at and (at - 1) % width ~= 0 do
    at = find(records, id, at + 1, true)
  end
  return at
end

return M
