-- Turns a holder's pending lease into a running one, or takes a free slot for it; the worker's first step with a hint.
--
-- ARGV    1 share of the cap, 2 lease in ms, 3 holder
-- Atomic  purge, count, move, add or drop the lease, leave standby, wait for the rate
-- Returns 'confirmed', 'taken', 'held', 'full' or 'unready', and 1 if the holder has to wait for the rate

local share, lease_end, holder = ARGV[1], now + tonumber(ARGV[2]), ARGV[3]

purge()
if redis.call('ZSCORE', RUNNING, holder) then
  return {'held', 0}
end
if readiness() ~= 'ready' then
  return {'unready', 0}
end
local pending, running = redis.call('ZCARD', PENDING), redis.call('ZCARD', RUNNING)
if redis.call('ZREM', PENDING, holder) == 1 then
  if running >= limit_of(share) then
    hand_back() -- the limit was lowered since the grant; its worker drops the hint
    return {'full', 0}
  end
  return {'confirmed', run(holder, lease_end)}
end
if room(share, pending, running) == 0 then
  hand_back() -- its worker drops the hint
  return {'full', 0}
end
return {'taken', run(holder, lease_end)}
