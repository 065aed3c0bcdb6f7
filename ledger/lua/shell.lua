-- The Redis side of the decision: reads the accounts of a batch, lets decide.lua decide, writes states and outbox, all in one atomic step.
--
-- KEYS  1 head of the partition, 2 its outbox stream, 3.. the accounts of the batch
-- ARGV  1 the head as the caller knows it, "epoch:generation:mark"; any other head there means that Redis was rolled back, flushed or
--         taken over, and nothing is decided
--       2 the first outbox id that is not yet committed; older records are dropped ("" = leave them)
--       3 the batch, MessagePack: {UTC offset of the business day in ms, list of terms, loads, items}
--         load: {account's index, link, packed state}; item: {account's index, terms' index, request}
-- Result {0, head found} or {1, mark, MessagePack of {results, changes}}
--   results, one per item: what decide.lua returns, and behind it [10] the account when there are entries; status 4 = not in Redis
--   change, one per changed account: {account, seq and link before, seq and link now, balance, held, owed, due_ms, packed state}
--
-- A stored account is 4 bytes generation, 6 bytes link, packed state. One of another generation counts as not there.
-- The link chains the entries: the first 48 bits of SHA-1 over the link before and the packed entry without its memo.

local DAY_MS, DUE_SLACK_MS = 86400000, 3600000
local COLD = 4

local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
  return { 0, found }
end
local epoch, generation, mark = string.match(found, '^(%d+):(%d+):(%d+)$')
generation, mark = tonumber(generation), tonumber(mark)

local batch = cmsgpack.unpack(ARGV[3])
local utc_offset_ms, terms_list, loads, items = batch[1], batch[2], batch[3], batch[4]

local accounts = {}
for i = 1, #loads do
  local load = loads[i]
  accounts[load[1]] = { state = state.unpack(cmsgpack.unpack(load[3])), link = load[2] }
end

local stored = {}
if #KEYS > 2 then
  stored = redis.call('MGET', unpack(KEYS, 3))
end

local function account_at(index)
  local account = accounts[index]
  if account then
    return account
  end
  local value = stored[index]
  if not value then
    return nil
  end
  local value_generation, link, from = struct.unpack('>I4I6', value)
  if value_generation ~= generation then
    return nil
  end
  account = { state = state.unpack(cmsgpack.unpack(string.sub(value, from))), link = link }
  accounts[index] = account
  return account
end

local function next_link(link, entry)
  local memo = entry[22]
  entry[22] = false
  local digest = redis.sha1hex(string.format('%.0f:', link) .. cmsgpack.pack(entry))
  entry[22] = memo
  return tonumber(string.sub(digest, 1, 12), 16)
end

-- When the next hold or lot runs out. Lots end at the end of a business day; the slack covers a change of the UTC offset.
local function due_ms(account_state)
  local due = 0
  for _, lot in ipairs(account_state.lots) do
    if lot[2] == 0 then
      break
    end
    if lot[3] > 0 then
      due = (lot[2] + 1) * DAY_MS - utc_offset_ms + DUE_SLACK_MS
      break
    end
  end
  for _, hold in ipairs(account_state.holds) do
    if due == 0 or hold[2] + 1 < due then
      due = hold[2] + 1
    end
  end
  return due
end

local results, changed = {}, {}
for i = 1, #items do
  local item = items[i]
  local account = account_at(item[1])
  if account then
    local before_seq, before_link = account.state.seq, account.link
    local result = decide.run(account.state, request.unpack(item[3]), terms_list[item[2]])
    local entries = result[7]
    if #entries > 0 then
      for j = 1, #entries do
        account.link = next_link(account.link, entries[j])
        entries[j][23] = account.link
      end
      result[10] = account.state.account
      if not account.before_seq then
        account.before_seq, account.before_link = before_seq, before_link
        changed[#changed + 1] = item[1]
      end
    end
    results[i] = result
  else
    results[i] = { COLD }
  end
end

local writes, changes = {}, {}
for i = 1, #loads do
  local load = loads[i]
  if not accounts[load[1]].before_seq then
    writes[#writes + 1] = KEYS[load[1] + 2]
    writes[#writes + 1] = struct.pack('>I4I6', generation, load[2]) .. load[3]
  end
end
for i = 1, #changed do
  local account = accounts[changed[i]]
  local now = account.state
  local packed = cmsgpack.pack(state.pack(now))
  writes[#writes + 1] = KEYS[changed[i] + 2]
  writes[#writes + 1] = struct.pack('>I4I6', generation, account.link) .. packed
  changes[i] = {
    now.account, account.before_seq, account.before_link, now.seq, account.link, now.balance, now.held, now.owed, due_ms(now), packed,
  }
end

if #writes > 0 then
  redis.call('MSET', unpack(writes))
end
local blob = cmsgpack.pack({ results, changes })
if #changes > 0 then
  mark = mark + 1
  redis.call('SET', KEYS[1], epoch .. string.format(':%.0f:%.0f', generation, mark))
  redis.call('XADD', KEYS[2], string.format('%.0f-0', mark), 'b', blob)
end
if ARGV[2] ~= '' then
  redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
end
return { 1, mark, blob }
