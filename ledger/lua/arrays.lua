-- The heads of MessagePack arrays: what is packed already becomes an array without being unpacked, and one is read item by item.
-- head(length): result: the bytes that make the next `length` values an array.
-- length(packed, at): argument `at`: bytes before the head; result: the array's length, bytes before its first value.
local M = {}
local byte, char, floor = string.byte, string.char, math.floor
local FIX, FIX_END, ARRAY16 = 144, 160, 220

function M.head(length)
  if length < 16 then
    return char(FIX + length)
  elseif length < 65536 then
    return char(ARRAY16, floor(length / 256), length % 256)
  end
  error("an array of " .. length)
end

function M.length(packed, at)
  local first, high, low = byte(packed, at + 1, at + 3)
  if first >= FIX and first < FIX_END then
    return first - FIX, at + 1
  elseif first == ARRAY16 then
    return high * 256 + low, at + 3
  end
  error("no array of fewer than 65,536")
end

return M
