-- Lengthens every pending lease that has not ended: the hints are known to wait in the broker's queue still.
--
-- ARGV    1 lease in ms
-- Atomic  all of them
-- Returns how many there are

local lease_end = now + tonumber(ARGV[1])
local holders = redis.call('ZRANGEBYSCORE', PENDING, '(' .. whole(now), '+inf')
for _, holder in ipairs(holders) do
  lease(PENDING, holder, lease_end)
end
return #holders
