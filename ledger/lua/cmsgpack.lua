-- MessagePack for Lua outside Redis (ledger/lua_runtime.py), byte for byte as Redis's own library `cmsgpack` writes what our scripts pack:
-- integers up to 2^53 either way, strings as raw, booleans, nil, arrays of these. Anything else is an error: Redis would pack it, we never do.
-- pack(value, ...): result: the packed values, one behind the other.
-- unpack(packed): result: the value; nothing for the empty string, as in Redis.
-- unpack_limit(packed, limit, at): result: how many bytes stand before what follows (-1 when nothing does), then up to `limit`
--   values, which begin behind the first `at` bytes.
local M = {}
local char, byte, sub, floor, concat, type = string.char, string.byte, string.sub, math.floor, table.concat, type
local BYTE, WORD, LONG = 256, 65536, 4294967296
local EXACT_MAX = 9007199254740992

-- Most numbers are small, so their bytes are made once.
local SMALL = {}
for n = 0, 127 do
  SMALL[n] = char(n)
end
for n = -32, -1 do
  SMALL[n] = char(BYTE + n)
end

local function word(n)
  return char(floor(n / BYTE), n % BYTE)
end

local function long(n)
  return char(floor(n / 16777216), floor(n / WORD) % BYTE, floor(n / BYTE) % BYTE, n % BYTE)
end

local function integer(n)
  if n ~= floor(n) or n > EXACT_MAX or n < -EXACT_MAX then
    error("not an integer of 53 bits: " .. tostring(n))
  elseif n >= 0 then
    if n < BYTE then
      return char(204, n)
    elseif n < WORD then
      return char(205) .. word(n)
    elseif n < LONG then
      return char(206) .. long(n)
    end
    return char(207) .. long(floor(n / LONG)) .. long(n % LONG)
  elseif n >= -128 then
    return char(208, BYTE + n)
  elseif n >= -32768 then
    return char(209) .. word(WORD + n)
  elseif n >= -2147483648 then
    return char(210) .. long(LONG + n)
  end
  return char(211) .. long(LONG + floor(n / LONG)) .. long(n % LONG)
end

local function string_header(length)
  if length < 32 then
    return char(160 + length)
  elseif length < BYTE then
    return char(217, length)
  elseif length < WORD then
    return char(218) .. word(length)
  end
  return char(219) .. long(length)
end

local function array_header(length)
  if length < 16 then
    return char(144 + length)
  elseif length < WORD then
    return char(220) .. word(length)
  end
  return char(221) .. long(length)
end

-- Appends to the list of parts behind its first `n`; result: the new length.
local function append(parts, n, value)
  local kind = type(value)
  if kind == "number" then
    parts[n + 1] = SMALL[value] or integer(value)
    return n + 1
  elseif kind == "string" then
    parts[n + 1], parts[n + 2] = string_header(#value), value
    return n + 2
  elseif kind == "table" then
    local length, keys = #value, 0
    for _ in pairs(value) do
      keys = keys + 1
    end
    if keys ~= length then
      error("a table that is no array")
    end
    n = n + 1
    parts[n] = array_header(length)
    for i = 1, length do
      n = append(parts, n, value[i])
    end
    return n
  elseif kind == "boolean" then
    parts[n + 1] = value and "\195" or "\194"
    return n + 1
  elseif kind == "nil" then
    parts[n + 1] = "\192"
    return n + 1
  end
  error("a value of type " .. kind)
end

function M.pack(...)
  local parts, n = {}, 0
  for i = 1, select("#", ...) do
    n = append(parts, n, (select(i, ...)))
  end
  return concat(parts)
end

local function missing()
  error("Missing bytes in input.")
end

local function number_at(packed, at, bytes)
  local b1, b2, b3, b4, b5, b6, b7, b8 = byte(packed, at, at + bytes - 1)
  if bytes == 1 then
    return b1 or missing()
  elseif bytes == 2 then
    return b2 and b1 * BYTE + b2 or missing()
  elseif bytes == 4 then
    return b4 and ((b1 * BYTE + b2) * BYTE + b3) * BYTE + b4 or missing()
  end
  if not b8 then
    missing()
  end
  local high, low = ((b1 * BYTE + b2) * BYTE + b3) * BYTE + b4, ((b5 * BYTE + b6) * BYTE + b7) * BYTE + b8
  return (high >= 2147483648 and high - LONG or high) * LONG + low
end

local function raw_at(packed, at, length)
  if at + length - 1 > #packed then
    missing()
  end
  return sub(packed, at, at + length - 1), at + length
end

local value_at

local function array_at(packed, at, length)
  local array = {}
  for i = 1, length do
    array[i], at = value_at(packed, at)
  end
  return array, at
end

-- By the first byte, from 192 on: how to read what begins there; `at` is behind that byte. Result: the value and where the next begins.
local function unsigned(bytes)
  return function(packed, at)
    return number_at(packed, at, bytes), at + bytes
  end
end

local function signed(bytes, range)
  return function(packed, at)
    local n = number_at(packed, at, bytes)
    return n >= range / 2 and n - range or n, at + bytes
  end
end

local function sized(bytes, read)
  return function(packed, at)
    return read(packed, at + bytes, number_at(packed, at, bytes))
  end
end

local READ = {
  [192] = function(_, at) return nil, at end,
  [194] = function(_, at) return false, at end,
  [195] = function(_, at) return true, at end,
  [204] = unsigned(1),
  [205] = unsigned(2),
  [206] = unsigned(4),
  [207] = unsigned(8), -- below 2^53, so that it does not matter that these read signed
  [208] = signed(1, BYTE),
  [209] = signed(2, WORD),
  [210] = signed(4, LONG),
  [211] = unsigned(8),
  [217] = sized(1, raw_at),
  [218] = sized(2, raw_at),
  [219] = sized(4, raw_at),
  [220] = sized(2, array_at),
  [221] = sized(4, array_at),
}

function value_at(packed, at)
  local first = byte(packed, at) or missing()
  if first < 128 then
    return first, at + 1
  elseif first >= 224 then
    return first - BYTE, at + 1
  elseif first >= 160 and first < 192 then
    return raw_at(packed, at + 1, first - 160)
  elseif first >= 144 and first < 160 then
    return array_at(packed, at + 1, first - 144)
  end
  local read = READ[first]
  if not read then
    error("Bad data format in input.")
  end
  return read(packed, at + 1)
end

function M.unpack(packed)
  if packed == "" then
    return
  end
  return (value_at(packed, 1))
end

function M.unpack_limit(packed, limit, at)
  if at < 0 or at > #packed then
    error("Start offset " .. at .. " greater than input length " .. #packed .. ".")
  end
  local values, n = {}, 0
  while n < limit and at < #packed do
    n = n + 1
    values[n], at = value_at(packed, at + 1)
    at = at - 1
  end
  return at == #packed and -1 or at, unpack(values, 1, n)
end

return M
