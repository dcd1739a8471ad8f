-- Makes a missing store ready: what the table says is running gets a lease beside what nodes reported since.
--
-- ARGV    1 lease in ms, 2 ms until slots are granted, 3 to 7 cap, rate interval in ms (0: no rate), burst, ms for which hints
--         are handed out ahead, time at which the caller's process started, then holders
-- Atomic  all of it; nothing if the store is not missing, so that one of several rebuilds counts
-- Returns 1 if this call did it, 2 if it did and the server does not tell which life it is in

if readiness() ~= 'missing' then
  return 0
end
local lease_end, settle_ms = now + tonumber(ARGV[1]), tonumber(ARGV[2])
for index = 8, #ARGV do
  lease(RUNNING, ARGV[index], lease_end)
end
redis.call('DEL', STANDBY) -- of before the loss, if it is still there: the next pass reads the queue anew
hand_back()
redis.call('HSET', STATE, 'work_seq', whole(now)) -- a number that no pass from before the flush has seen
put_limits(unpack(ARGV, 3, 7))
if settle_ms > 0 then
  empty_bucket(known.ahead_ms) -- nobody knows who has started, or was promised to
end
redis.call('HSET', STATE, 'ready_at', whole(now + settle_ms), 'lease_ms', ARGV[1])
return life_of_server() == '' and 2 or 1
