-- Ends a dispatch pass: remembers whether the queue has nothing left to hand out, so that releases need no dispatch.
--
-- ARGV    1 work_seq as the pass began, 2 '1' if the pass found nothing more, 3 lag of the table's index in ms
-- Atomic  compare and set: no work was announced since the pass began, nor so shortly before that the index of the table
--         may not have shown it
-- Returns 1 if the queue is known to be dry from here on

if ARGV[2] ~= '1' then
  redis.call('HDEL', STATE, 'dry')
  return 0
end
local settled = now - counter('work_at') > tonumber(ARGV[3])
if counter('work_seq') == tonumber(ARGV[1]) and settled then
  redis.call('HSET', STATE, 'dry', 1)
end
return counter('dry')
