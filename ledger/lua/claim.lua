-- A new owner takes a partition over in Redis: fences the former one and collects what it decided but did not get committed.
--
-- KEYS  1 head of the partition, 2 its outbox stream
-- ARGV  1 the new epoch, 2 the generation and 3 the mark that PostgreSQL has committed, 4 the last epoch whose owner decided
-- Result {1, mark, outbox records behind the committed mark} when Redis continues where PostgreSQL is;
--        {0} when it does not (empty, older, of another generation, or last
--        claimed before the last owner decided, so that one who was overtaken may have written here): then nothing of it may be trusted, see reset.lua

local found = redis.call('GET', KEYS[1]) or ''
local epoch, generation, mark = string.match(found, '^(%d+):(%d+):(%d+)$')
local committed = tonumber(ARGV[3])
if not epoch or tonumber(epoch) >= tonumber(ARGV[1]) or tonumber(epoch) < tonumber(ARGV[4]) then
  return { 0 }
end
if generation ~= ARGV[2] or tonumber(mark) < committed then
  return { 0 }
end
local records = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', committed + 1), '+')
if #records ~= tonumber(mark) - committed then
  return { 0 }
end
local blobs = {}
for i = 1, #records do
  blobs[i] = records[i][2][2]
end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. generation .. ':' .. mark)
return { 1, tonumber(mark), blobs }
