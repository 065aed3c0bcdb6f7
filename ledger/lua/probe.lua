-- Whether a script could write here: fails where Redis is a replica, is full or is still loading. Leaves nothing behind.
--
-- KEYS  1 a name of the partition that nothing else uses
-- ARGV  none
-- Result 1

redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])
return 1
