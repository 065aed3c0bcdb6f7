-- The library `struct` for Lua outside Redis (ledger/lua_runtime.py): unsigned integers of 1 to 7 bytes, the high byte first, which is
-- all that our scripts store. A number that does not fit is an error here; Redis would cut it, so none must ever come.
-- pack(format, ...): arguments: ">" and an "I" with the number of bytes for each number; result: the bytes.
-- unpack(format, packed, from): argument `from`: where to begin, else 1; result: the numbers, and the position behind them.
local M = {}
local byte, char, floor, concat, type = string.byte, string.char, math.floor, table.concat, type
local widths = {}

local function widths_of(format)
  if type(format) ~= "string" then
    error("string expected, got " .. type(format))
  end
  local known = widths[format]
  if not known then
    known = {}
    for width in string.gmatch(format, "I([1-7])") do
      known[#known + 1] = tonumber(width)
    end
    if #format ~= 1 + 2 * #known or byte(format) ~= byte(">") then
      error("struct: this is not known here: " .. format)
    end
    widths[format] = known
  end
  return known
end

function M.pack(format, ...)
  local all, numbers, parts = widths_of(format), { ... }, {}
  for i = 1, #all do
    local number, bytes = numbers[i], {}
    if type(number) ~= "number" or number < 0 or number ~= floor(number) then
      error("no whole number: " .. tostring(number))
    end
    local rest = number
    for j = all[i], 1, -1 do
      bytes[j] = rest % 256
      rest = floor(rest / 256)
    end
    if rest > 0 then
      error(number .. " has more than " .. all[i] .. " bytes")
    end
    parts[i] = char(unpack(bytes))
  end
  return concat(parts)
end

function M.unpack(format, packed, from)
  local all, numbers, at = widths_of(format), {}, from or 1
  if at > #packed + 1 then
    error("data string too short")
  end
  for i = 1, #all do
    local width, number = all[i], 0
    if at + width - 1 > #packed then
      error("data string too short")
    end
    for j = at, at + width - 1 do
      number = number * 256 + byte(packed, j)
    end
    numbers[i], at = number, at + width
  end
  numbers[#all + 1] = at
  return unpack(numbers, 1, #all + 1)
end

return M
