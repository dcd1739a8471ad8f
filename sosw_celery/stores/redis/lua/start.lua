-- Gives a holder that has its slot and its task the time at which its body may start, by the rate: the worker's last step before
-- the body. Tokens are promised in the order in which they are asked for.
--
-- ARGV    1 holder
-- Atomic  spend a token
-- Returns 'start' and the ms until then as text; 'ask' and the ms after which to ask again: no token comes due in time, or the
--         store is not ready; 'lost' if the lease is gone
--
-- A token that was spent and not used is lost, which breaks no promise: so the answer need not be the same when asked again.

local UNREADY_MS, LEAST_MS = 500, 100

local function answer(what, ms)
  return {what, string.format('%.3f', ms)}
end

if readiness() ~= 'ready' then
  return answer('ask', UNREADY_MS)
end
if not lives(RUNNING, ARGV[1]) then
  return answer('lost', 0)
end
local interval_ms, burst, ahead_ms = rate()
if interval_ms > 0 then
  local tat = bucket()
  local wait = math.max(0, tat - now - (burst - 1) * interval_ms)
  if wait > ahead_ms then -- the rate was lowered since the grant, or this server knows nothing of it yet
    return answer('ask', math.max(LEAST_MS, wait - ahead_ms))
  end
  keep_bucket(tat + interval_ms)
  end_wait(ARGV[1])
  return answer('start', wait)
end
return answer('start', 0)
