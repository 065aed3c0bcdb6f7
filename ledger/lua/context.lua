-- Positions in the array that tells what the journal knows of the target of a REFUND, REVERSE, CAPTURE, RELEASE or MERGE_IN,
-- and of the cards of an account that a MERGE_OUT empties. An account and those merged into it count as one.
-- Arguments: none. Result: a table of named positions.
--
-- "Net" values are summed over the target and every entry that targets it, transitively. FATE is REVERSE as soon as
-- the target, or an entry that it targets itself, has been reversed: what hangs on something reversed has no effect
-- left to give back.
local M = {
  AS_OF_SEQ = 1, -- the account's seq when the journal was read
  FOUND = 2, -- 0 nowhere, 1 on this account, 2 on another account
  OP = 3,
  PARTNER = 4,
  AMOUNT = 5, -- of the target's receipt
  ELIGIBLE = 6,
  SPENT = 7, -- the target's own
  EARNED = 8, -- the target's own, gross
  NET_SPENT = 9,
  NET_EARNED = 10,
  NET_REFUNDED = 11, -- money
  NET_MOVES = 12, -- flat quads {from, until, free delta, held delta}
  FATE = 13, -- 0 open or none, else the operation that ended it
  RATE_BP = 14,
  DAY = 15, -- day on which the target's spending was counted (of a CAPTURE: its HOLD's day), false when unknown
  NET_EXPIRED = 16, -- flat quads like NET_MOVES of the EXPIRE_LOTS entries alone, false when there are none
  CARDS = 17, -- MERGE_IN: what the target took, flat {token16, status}; MERGE_OUT: {token16} that lead elsewhere by now
}

return M
