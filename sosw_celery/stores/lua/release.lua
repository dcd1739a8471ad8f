-- Frees the slot of a holder and hands it over to who stands by first.
--
-- ARGV    1 limit (0: hand nothing over), 2 lease in ms, 3 rate interval in ms (0: no rate), 4 burst, 5 holder, 6 number of
--         ends after which an archive sweep is due
-- Atomic  drop the lease, hand the row back if it was pending, purge, grant, spend tokens, count the end, claim the
--         dispatch marker
-- Returns released, dispatch due, archive due, granted holders
--
-- A dispatch is due when standby has run low and the queue may fill it up, when a row was handed back, and when somebody
-- stands by beside a free slot and no dispatch comes for that: the rate refused, or there was more than one call hands
-- over.

local HANDED_OVER_AT_MOST = 10 -- the caller publishes them before it goes on

local holder, archive_every = ARGV[5], tonumber(ARGV[6])

local ran, waited = redis.call('ZREM', RUNNING, holder), redis.call('ZREM', PENDING, holder)
if waited > 0 then
  hand_back() -- a grant that nobody took up
end
purge()

local grants = open_grants()
hand_over(grants, HANDED_OVER_AT_MOST)

local left = standing_by()
local read_to_end = redis.call('HGET', STATE, 'dry') or counter('look_at') > now
local low = left * 2 <= counter('standby_target') and not read_to_end
local stuck = left > 0 and grants.free > 0 and (rate_wait(grants) == 0 or counter('wake_at') <= now)
local due = (ran + waited > 0 and low) or handed_back or stuck

-- Counted also when the lease had ended before: the task was closed all the same. One too many costs a sweep at most.
local waiting = redis.call('HINCRBY', STATE, 'closes', 1) - counter('closes_swept')
return {
  math.min(ran + waited, 1),
  due and claim_dispatch() or 0,
  waiting > 0 and waiting % archive_every == 0 and 1 or 0,
  close_grants(grants),
}
