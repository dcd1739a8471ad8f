-- Frees the slot of a holder and hands it over to who stands by first.
--
-- ARGV    1 share of the cap (0: hand nothing over), 2 lease in ms, 3 holder, 4 number of ends after which an archive sweep is
--         due
-- Atomic  drop the lease, hand the row back if it was pending, purge, grant, count the end, claim the dispatch marker
-- Returns released, dispatch due, archive due, granted holders
--
-- A dispatch is due when standby has run low and the queue may fill it up, when a row was handed back, and when there was more
-- than one call hands over.

local HANDED_OVER_AT_MOST = 10 -- the caller publishes them before it goes on

local holder, archive_every = ARGV[3], tonumber(ARGV[4])

redis.call('HDEL', CLOSING, holder)
end_wait(holder)
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
  grants.holders,
}
