-- Turns a holder's pending lease into a running one, or takes a free slot for it; the worker's first step with a hint.
--
-- ARGV    1 holder, 2 limit, 3 lease in ms, 4 rate interval in ms (0: no rate), 5 burst
-- Atomic  purge, count, move, add or drop the lease, leave standby, spend a token (only for a slot that had not been
--         granted)
-- Returns 'confirmed', 'taken', 'held', 'full' or 'unready'

local holder, limit, lease_end = ARGV[1], tonumber(ARGV[2]), now + tonumber(ARGV[3])
local interval_ms, burst = tonumber(ARGV[4]), tonumber(ARGV[5])

purge()
if redis.call('ZSCORE', RUNNING, holder) then
  return 'held'
end
if readiness() ~= 'ready' then
  return 'unready'
end
if redis.call('ZREM', PENDING, holder) == 1 then
  if redis.call('ZCARD', RUNNING) >= limit then
    hand_back() -- the limit was lowered since the grant; its worker drops the hint
    return 'full'
  end
  run(holder, lease_end)
  return 'confirmed'
end

local tat = bucket(interval_ms, burst)
if used() >= limit or token_wait(tat, interval_ms, burst) > 0 then
  hand_back() -- its worker drops the hint
  return 'full'
end
run(holder, lease_end)
if interval_ms > 0 then
  keep_bucket(tat + interval_ms)
end
return 'taken'
