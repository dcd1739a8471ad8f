-- Makes a missing store ready: what the table says is running gets a lease beside what nodes reported since.
--
-- ARGV    1 lease in ms, 2 ms until slots are granted, then holders
-- Atomic  all of it; nothing if the store is not missing, so that one of several rebuilds counts
-- Returns 1 if this call did it, 2 if it did and the server does not tell which life it is in

if readiness() ~= 'missing' then
  return 0
end
local lease_end = now + tonumber(ARGV[1])
for index = 3, #ARGV do
  lease(RUNNING, ARGV[index], lease_end)
end
redis.call('DEL', STANDBY) -- of before the loss, if it is still there: the next pass reads the queue anew
hand_back()
redis.call('HSET', STATE, 'work_seq', whole(now)) -- a number that no pass from before the flush has seen
redis.call('HSET', STATE, 'ready_at', whole(now + tonumber(ARGV[2])), 'lease_ms', ARGV[1])
return life_of_server() == '' and 2 or 1
