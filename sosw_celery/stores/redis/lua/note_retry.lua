-- Keeps the earliest time at which a task waiting for retry is due.
--
-- ARGV    1 due time as a sortable text
-- Atomic  keep the minimum, count the note
-- Returns nothing

local known = redis.call('HGET', STATE, 'next_retry_at')
if not known or ARGV[1] < known then
  redis.call('HSET', STATE, 'next_retry_at', ARGV[1])
end
redis.call('HINCRBY', STATE, 'retries', 1)
