-- Ends a dispatch pass: remembers whether the queue has nothing left to hand out, so that releases need no dispatch.
--
-- ARGV    1 work_seq as the pass began, 2 '1' if the pass found nothing more, 3 lag of the table's index in ms
-- Atomic  compare and set: no work was announced since the pass began, nor so shortly before that the index of the table
--         may not have shown it
-- Returns 1 if the queue is known to be dry from here on
--
-- A queue whose end was read, but too soon after an announcement to be called dry, is looked at again after a while only:
-- or else each end of its last tasks would cost a pass.

local LOOK_AGAIN_MS = 250

redis.call('HDEL', STATE, 'filling_until')
if ARGV[2] ~= '1' then
  redis.call('HDEL', STATE, 'dry')
  return 0
end
local settled = now - counter('work_at') > tonumber(ARGV[3])
if counter('work_seq') == tonumber(ARGV[1]) then
  if settled then
    redis.call('HSET', STATE, 'dry', 1)
  else
    redis.call('HSET', STATE, 'look_at', whole(now + LOOK_AGAIN_MS))
  end
end
return counter('dry')
