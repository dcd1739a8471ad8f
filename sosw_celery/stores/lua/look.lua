-- Counts the leases that have not ended. Reads only.
--
-- ARGV    none
-- Atomic  one moment
-- Returns pending, running, readiness

local live = '(' .. whole(now)
return {redis.call('ZCOUNT', PENDING, live, '+inf'), redis.call('ZCOUNT', RUNNING, live, '+inf'), readiness()}
