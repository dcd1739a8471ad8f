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

redis.call('HDEL', CLOSING, holder)
local ran, waited = redis.call('ZREM', RUNNING, holder), redis.call('ZREM', PENDING, holder)
if waited > 0 then
  hand_back() -- a grant that nobody took up
end
purge()

local grants = open_grants()
hand_over(grants, HANDED_OVER_AT_MOST)

local due = (ran + waited > 0 and standby_is_low()) or handed_back or is_stuck(grants)
return {
  math.min(ran + waited, 1),
  due and claim_dispatch() or 0,
  -- Counted also when the lease had ended before: the task was closed all the same. One too many costs a sweep at most.
  count_end(archive_every),
  close_grants(grants),
}
