-- Says when a pass has to come back because the rate has somebody wait with a slot free.
--
-- ARGV    1 rate interval in ms, 2 burst, 3 name of the wake that made this pass come, or ''
-- Atomic  compare and set: of all who find out, one sends the dispatch, and one dispatch leads to one at most
-- Returns ms until the rate allows the next start, at least 1, and the wake's name if the caller has to send a dispatch
--         for then, else 0: one comes by then already

local interval_ms, burst = tonumber(ARGV[1]), tonumber(ARGV[2])

local wait = math.max(1, math.ceil(token_wait(bucket(interval_ms, burst), interval_ms, burst)))
local at, known = now + wait, counter('wake_at')
-- A wake may come too early where clocks differ: nobody else comes then.
if known > now and known <= at + 1 and whole(known) ~= ARGV[3] then
  return {wait, 0}
end
redis.call('HSET', STATE, 'wake_at', whole(at))
return {wait, at}
