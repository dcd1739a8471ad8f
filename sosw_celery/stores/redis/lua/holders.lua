-- Lists the leases that have not ended, the one that ends first first.
--
-- ARGV    none
-- Atomic  one moment
-- Returns {holder, ms left, ...} of the pending ones, the same of the running ones

local function left(key)
  local leases = redis.call('ZRANGEBYSCORE', key, '(' .. whole(now), '+inf', 'WITHSCORES')
  for index = 2, #leases, 2 do
    leases[index] = tonumber(leases[index]) - now
  end
  return leases
end

return {left(PENDING), left(RUNNING)}
