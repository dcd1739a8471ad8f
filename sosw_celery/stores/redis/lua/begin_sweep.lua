-- Tells the scavenger what happened since its last sweep, so that an idle labourer costs no read of a table.
--
-- ARGV    none
-- Atomic  purge, and all of it is one moment
-- Returns readiness, {closes, lapses, retries noted}, {closes, lapses} of them that were swept, next retry or '', ms since
--         the last full sweep or -1, holders that run or are closing, pending holders

purge()
-- Who is closing is not lost while the run after it has its slot.
local alive = redis.call('ZRANGE', RUNNING, 0, -1)
local closing = redis.call('HGETALL', CLOSING)
for index = 1, #closing, 2 do
  if redis.call('ZSCORE', RUNNING, closing[index]) then
    alive[#alive + 1] = closing[index + 1]
  else
    redis.call('HDEL', CLOSING, closing[index])
  end
end
local full_at = redis.call('HGET', STATE, 'full_sweep_at')
return {
  readiness(),
  {counter('closes'), counter('lapses'), counter('retries')},
  {counter('closes_swept'), counter('lapses_swept')},
  redis.call('HGET', STATE, 'next_retry_at') or '',
  full_at and math.max(0, now - tonumber(full_at)) or -1,
  alive,
  redis.call('ZRANGE', PENDING, 0, -1),
}
