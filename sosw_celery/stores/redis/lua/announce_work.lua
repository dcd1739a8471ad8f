-- Says that rows were queued.
--
-- ARGV    1 lowest place of the rows or '' if they all stand at the tail, 2 place right before that or ''
-- Atomic  clear dry and the time to look again, count up, note the time, move the cursor to before the rows, claim the
--         dispatch marker
-- Returns dispatch due

redis.call('HDEL', STATE, 'dry', 'look_at')
redis.call('HINCRBY', STATE, 'work_seq', 1)
redis.call('HSET', STATE, 'work_at', whole(now))

local cursor = redis.call('HGET', STATE, 'cursor')
if ARGV[1] ~= '' and cursor and ARGV[1] <= cursor then
  redis.call('HSET', STATE, 'cursor', ARGV[2])
end
return claim_dispatch()
