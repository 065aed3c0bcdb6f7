-- Start a partition anew in Redis: accounts of earlier generations no longer count and are loaded from PostgreSQL as they are asked for.
--
-- KEYS  1 head of the partition, 2 its outbox stream
-- ARGV  1 the new head, "epoch:generation:mark"

redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1])
return 1
