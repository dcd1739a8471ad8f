-- Counts the leases that have not ended.
--
-- ARGV    none
-- Atomic  one moment
-- Returns pending, running, readiness, dry, standing by

local live = '(' .. whole(now)
local pending, running = redis.call('ZCOUNT', PENDING, live, '+inf'), redis.call('ZCOUNT', RUNNING, live, '+inf')
-- A lease that has ended and was not purged yet has left its row in the queue.
local dry = pending + running == used() and counter('dry') or 0
return {pending, running, readiness(), dry, standing_by()}
