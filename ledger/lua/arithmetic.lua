-- Exact integer arithmetic in a language whose only numbers are doubles.
-- MAX: the largest amount of points or money. SCALE: basis points in a whole.
-- mul_div(a, b, c): arguments: integers 0 <= a, b <= MAX and 1 <= c <= MAX;
-- result: floor(a * b / c), exact as long as it is <= MAX, else some number above MAX.
local floor = math.floor

local M = { MAX = 9007199254740991, SCALE = 10000 }
local FIRST_INEXACT = 9007199254740992

-- floor(a * b / c) for a < c by long multiplication in base two: quotient and rest stay below c at every step.
local function long_mul_div(a, b, c)
  local quotient, rest = 0, 0
  local power = 4503599627370496
  while power >= 1 do
    quotient = quotient * 2
    if rest >= c - rest then
      rest = rest - (c - rest)
      quotient = quotient + 1
    else
      rest = rest + rest
    end
    if b >= power then
      b = b - power
      if rest >= c - a then
        rest = rest - (c - a)
        quotient = quotient + 1
      else
        rest = rest + a
      end
    end
    power = power / 2
  end
  return quotient
end

function M.mul_div(a, b, c)
  local product = a * b
  if product < FIRST_INEXACT then
    return floor(product / c)
  end
  local whole = floor(a / c)
  return whole * b + long_mul_div(a - whole * c, b, c)
end

return M
