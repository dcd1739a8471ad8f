-- Has who stands by first run at once in the slot of a holder whose run has ended and whose close is under way.
--
-- ARGV    1 share of the cap, 2 lease in ms, 3 holder, 4 number of ends after which an archive sweep is due
-- Atomic  purge, swap the lease, wait for the rate, count the end, claim the dispatch marker; nothing but the purge unless
--         somebody runs in the slot now
-- Returns the next holder or '', dispatch due, archive due, 1 if the next holder has to wait for the rate
--
-- Asked again, it answers the same as long as the next one holds the slot: clients repeat a call whose answer they missed.
-- The ended run is remembered as closing while the next one holds the slot: it has no lease any more, and is not lost.

local holder, archive_every = ARGV[3], tonumber(ARGV[4])

-- Who runs in the slot that this holder has handed on, or ''.
local function successor(before)
  local first = ''
  local closing = redis.call('HGETALL', CLOSING)
  for index = 1, #closing, 2 do
    local after = closing[index]
    if closing[index + 1] == before and lives(RUNNING, after) and (first == '' or after < first) then
      first = after
    end
  end
  return first
end

purge()
local lease_end = redis.call('ZSCORE', RUNNING, holder)
if not lease_end then
  -- Its lease was lost, and its slot is another's; or it was handed on, and the answer was lost.
  return {successor(holder), handed_back and claim_dispatch() or 0, 0, rate() == 0 and 0 or 1}
end
redis.call('ZREM', RUNNING, holder)
local grants = open_grants()
hand_over(grants, 1)
local next_holder = grants.holders[1]
if not next_holder then
  redis.call('ZADD', RUNNING, lease_end, holder)
  return {'', handed_back and claim_dispatch() or 0, 0, 0}
end
redis.call('ZREM', PENDING, next_holder)
local waits = run(next_holder, grants.lease_end)
end_wait(holder)
redis.call('HDEL', CLOSING, holder)
redis.call('HSET', CLOSING, next_holder, holder)
local due = standby_is_low() or handed_back or is_stuck(grants)
return {next_holder, due and claim_dispatch() or 0, count_end(archive_every), waits}
