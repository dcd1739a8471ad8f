-- Frees the slot of a holder.
--
-- ARGV    1 holder, 2 number of ends after which an archive sweep is due
-- Atomic  drop the lease, hand the row back if it was pending, count the end, claim the dispatch marker
-- Returns released, dispatch due, archive due

local holder, archive_every = ARGV[1], tonumber(ARGV[2])

local ran, waited = redis.call('ZREM', RUNNING, holder), redis.call('ZREM', PENDING, holder)
if waited > 0 then
  hand_back() -- a grant that nobody took up
end
-- Counted also when the lease had ended before: the task was closed all the same. One too many costs a sweep at most.
local waiting = redis.call('HINCRBY', STATE, 'closes', 1) - counter('closes_swept')
return {
  math.min(ran + waited, 1),
  ran + waited > 0 and dispatch_due() or 0,
  waiting > 0 and waiting % archive_every == 0 and 1 or 0,
}
