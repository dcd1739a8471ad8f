-- Counts the leases that have not ended, and what is free beside them.
--
-- ARGV    1 share of the cap
-- Atomic  one moment
-- Returns pending, running, readiness, dry, standing by, limit, free, cap in force, rate interval in ms (0: no rate), time at
--         which the process started whose configuration is in force, ms

local live = '(' .. whole(now)
local pending, running = redis.call('ZCOUNT', PENDING, live, '+inf'), redis.call('ZCOUNT', RUNNING, live, '+inf')
-- A lease that has ended and was not purged yet has left its row in the queue.
local dry = pending + running == used() and counter('dry') or 0
return {
  pending,
  running,
  readiness(),
  dry,
  standing_by(),
  limit_of(ARGV[1]),
  room(ARGV[1], pending, running),
  known.cap,
  tostring(known.interval_ms),
  counter('limits_at'),
}
