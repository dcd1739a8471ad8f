-- Gives a slot that was handed on back to the holder before: its close failed, and its lease is to hold on until it is made.
--
-- ARGV    1 lease in ms, 2 holder that has the slot, 3 holder that handed it on
-- Atomic  purge, swap the lease, hand the row back, count a lapse; nothing but the purge if the lease was lost meanwhile
-- Returns 1 if the slot is the latter's
--
-- The claim of the first one may have been made all the same: as with any lease that is gone, the scavenger has to look.

purge()
if redis.call('ZREM', RUNNING, ARGV[2]) == 0 then
  return 0
end
redis.call('HDEL', CLOSING, ARGV[2])
redis.call('ZREM', PENDING, ARGV[3])
run(ARGV[3], now + tonumber(ARGV[1]))
end_wait(ARGV[2])
end_wait(ARGV[3]) -- its body is through
redis.call('HINCRBY', STATE, 'lapses', 1)
hand_back()
return 1
