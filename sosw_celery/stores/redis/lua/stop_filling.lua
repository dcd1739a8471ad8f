-- Notes how many are to stand by from now on, and that no pass is filling standby up any more.
--
-- ARGV    1 standby target
-- Atomic  both
-- Returns nothing

redis.call('HSET', STATE, 'standby_target', ARGV[1])
redis.call('HDEL', STATE, 'filling_until')
