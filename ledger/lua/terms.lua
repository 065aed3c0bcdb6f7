-- Positions in the array of a network's terms.
-- Arguments: none. Result: a table of named positions.
local M = {
  EARN_RATE_BP = 1, -- minor points per 10,000 minor units of money
  REDEEM_MIN = 2, -- points
  REDEEM_MAX = 3, -- points, 0 = no maximum
  SHARE_BP = 4, -- largest share of a receipt that points may pay, 10,000 = all of it
  DAY_POINTS_MAX = 5, -- points an account may spend in a day, 0 = no limit
  DAY_COUNT_MAX = 6, -- redemptions of an account in a day, 0 = no limit
  HOLD_MS_DEFAULT = 7,
  HOLD_MS_MAX = 8,
  HOLDS_MAX = 9, -- open holds of an account
}

return M
