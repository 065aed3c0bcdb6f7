-- The Redis side of the decision: reads the accounts of a batch, lets decide.lua decide, writes states and outbox, all in one atomic step.
--
-- KEYS  1 head of the partition, 2 its outbox stream, 3.. the accounts of the batch
-- ARGV  1 the head as the caller knows it, "epoch:generation:mark"; any other head there means that Redis was rolled back, flushed or
--         taken over, and nothing is decided
--       2 the first outbox id that is not yet committed; older records are dropped ("" = leave them)
--       3 the batch, MessagePack: {UTC offset of the business day in ms, list of terms, loads, items}
--         load: {account's index, link, packed state}; item: {account's index, terms' index, request}
-- Result {0, head found} or {1, mark, MessagePack of {results, changes}}
--   results, one per item: what decide.lua returns, each entry with the link as its 23rd value; status 4 = not in Redis
--   change, one per changed account: {account, seq and link before, seq and link now, balance, held, owed, due_ms, packed state}
--
-- A stored account is 4 bytes generation, 6 bytes link, packed state. One of another generation counts as not there.
-- The link chains the entries: the first 48 bits of SHA-1 over the link before and the packed entry without its memo.
-- Items are read one by one, and what is packed is not packed again: tables are what a decision costs most.

local DAY_MS, DUE_SLACK_MS = 86400000, 3600000
local STORED, STATE_FROM = '>I4I6', 11
-- Bytes of the head of an array of at least 16 values, and of one of fewer.
local LONG_HEAD, SHORT_HEAD = 3, 1
local RESULT_HEAD, ENTRY_HEAD, CHANGE_HEAD = arrays.head(9), arrays.head(entry.LENGTH + 1), arrays.head(10)
local COLD = cmsgpack.pack({ 4 })
local pack, unpack_limit, sub, format = cmsgpack.pack, cmsgpack.unpack_limit, string.sub, string.format

local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
  return { 0, found }
end
local epoch, generation, mark = string.match(found, '^(%d+):(%d+):(%d+)$')
generation, mark = tonumber(generation), tonumber(mark)

local batch = ARGV[3]
local items_at, utc_offset_ms, terms_list, loads = unpack_limit(batch, 3, SHORT_HEAD)

-- By the account's index: state and link now, seq and link before the batch once it has changed the account.
local states, links, seqs_before, links_before = {}, {}, {}, {}
for i = 1, #loads do
  local load = loads[i]
  states[load[1]], links[load[1]] = state.unpack(load[3], 1), load[2]
end

local stored = {}
if #KEYS > 2 then
  stored = redis.call('MGET', unpack(KEYS, 3))
end

local function state_at(index)
  local known = states[index]
  if known then
    return known
  end
  local value = stored[index]
  if not value then
    return nil
  end
  local value_generation, link = struct.unpack(STORED, value)
  if value_generation ~= generation then
    return nil
  end
  known = state.unpack(value, STATE_FROM)
  states[index], links[index] = known, link
  return known
end

-- The reply in parts: its head, the results, the head of the changes, the changes.
local reply, parts = {}, 0

local function put(part)
  parts = parts + 1
  reply[parts] = part
end

-- Puts an entry with the link behind it. Result: the link.
local function put_entry(link, row)
  local memo = row[entry.MEMO]
  row[entry.MEMO] = false
  local packed = pack(row)
  row[entry.MEMO] = memo
  link = tonumber(sub(redis.sha1hex(format('%.0f:', link) .. packed), 1, 12), 16)
  put(ENTRY_HEAD)
  -- All but the memo, which is one byte as long as it is false, stands as it is.
  put(sub(packed, LONG_HEAD + 1, -2))
  put(pack(memo, link))
  return link
end

local function put_approved(index, decided)
  local entries, link = decided[7], links[index]
  put(RESULT_HEAD)
  put(pack(decided[1], decided[2], decided[3], decided[4], decided[5], decided[6]))
  put(arrays.head(#entries))
  for j = 1, #entries do
    link = put_entry(link, entries[j])
  end
  links[index] = link
  put(pack(decided[8], decided[9]))
end

-- When the next hold or lot runs out. Lots end at the end of a business day; the slack covers a change of the UTC offset.
local function due_ms(now)
  local due, lots_now, holds_now = 0, now.lots, now.holds
  for i = 1, #lots_now, 4 do
    local until_day = lots_now[i + 1]
    if until_day == 0 then
      break
    end
    if lots_now[i + 2] > 0 then
      due = (until_day + 1) * DAY_MS - utc_offset_ms + DUE_SLACK_MS
      break
    end
  end
  for i = 1, #holds_now do
    if due == 0 or holds_now[i][2] + 1 < due then
      due = holds_now[i][2] + 1
    end
  end
  return due
end

local items, at = arrays.length(batch, items_at)
local changed = {}
put(arrays.head(2) .. arrays.head(items))
for _ = 1, items do
  local request_at, index, terms_index = unpack_limit(batch, 2, at + SHORT_HEAD)
  local asked
  at, asked = request.read(batch, request_at + LONG_HEAD)
  local account = state_at(index)
  if account then
    local seq, link = account.seq, links[index]
    local decided = decide.run(account, asked, terms_list[terms_index])
    if #decided[7] > 0 then
      put_approved(index, decided)
      if not seqs_before[index] then
        seqs_before[index], links_before[index] = seq, link
        changed[#changed + 1] = index
      end
    else
      put(pack(decided))
    end
  else
    put(COLD)
  end
end

local writes = {}
for i = 1, #loads do
  local load = loads[i]
  if not seqs_before[load[1]] then
    writes[#writes + 1] = KEYS[load[1] + 2]
    writes[#writes + 1] = struct.pack(STORED, generation, load[2]) .. load[3]
  end
end
put(arrays.head(#changed))
for i = 1, #changed do
  local index = changed[i]
  local now, link = states[index], links[index]
  local packed = state.pack(now)
  writes[#writes + 1] = KEYS[index + 2]
  writes[#writes + 1] = struct.pack(STORED, generation, link) .. packed
  put(CHANGE_HEAD)
  put(pack(
    now.account, seqs_before[index], links_before[index], now.seq, link, now.balance, now.held, now.owed, due_ms(now), packed
  ))
end

if #writes > 0 then
  redis.call('MSET', unpack(writes))
end
local blob = table.concat(reply)
if #changed > 0 then
  mark = mark + 1
  redis.call('SET', KEYS[1], epoch .. format(':%.0f:%.0f', generation, mark))
  redis.call('XADD', KEYS[2], format('%.0f-0', mark), 'b', blob)
end
if ARGV[2] ~= '' then
  redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
end
return { 1, mark, blob }
