-- The operations a decision knows: those of the wire, and from 40 on those that only the ledger itself makes.
-- Arguments: none. Result: a table of named codes.
local M = {
  BALANCE = 16,
  REDEEM = 17,
  HOLD = 18,
  CAPTURE = 19,
  RELEASE = 20,
  EARN = 21,
  SALE = 22,
  REFUND = 23,
  REVERSE = 24,
  ACTIVATE = 32,
  BLOCK = 33,
  REPLACE = 34,
  EXPIRE_LOTS = 40,
  EXPIRE_HOLD = 41,
  SETTLE = 42,
  TOMBSTONE = 43,
  ADJUST = 44,
  UNBLOCK = 45,
  LINK = 46,
  MERGE_OUT = 47,
  MERGE_IN = 48,
  BLOCK_ACCOUNT = 49,
  UNBLOCK_ACCOUNT = 50,
  UNLINK = 51,
}

return M
