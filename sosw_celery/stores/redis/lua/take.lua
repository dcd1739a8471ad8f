-- Hands out a stretch of the queue: its holders without a lease go on standby, and from there the first get pending leases
-- as far as there is room.
--
-- ARGV    1 share of the cap, 2 lease in ms, 3 most that may stand by, 4 work_seq as the pass began or '' to move the cursor in
--         any case, then triples: holder, place, place in microseconds; in queue order
-- Atomic  purge, count, grant, move the cursor; nothing at all unless ready
-- Returns slots in use, standing by, 1 if a holder was refused, free, granted holders
--
-- Refused is the first holder that gets no lease and finds standby full, and with it all after it. The cursor ends at the
-- last place up to which every holder has a lease or stands by: never at or past one that was refused, also if another
-- pass had moved it there. It stays if rows were announced or handed back since the pass began: they may stand within the
-- stretch, and the pass did not read them.

local target, work_seq = tonumber(ARGV[3]), ARGV[4]

purge()
if readiness() ~= 'ready' then
  return {used(), standing_by(), 1, 0, {}}
end

local grants = open_grants()
hand_over(grants, math.huge)

local function hand_out(holder, microseconds)
  if has_lease(holder) or redis.call('ZSCORE', STANDBY, holder) then
    return true
  end
  redis.call('ZADD', STANDBY, microseconds, holder)
  hand_over(grants, math.huge)
  return standing_by() <= target or redis.call('ZREM', STANDBY, holder) == 0
end

local handed_out, refused = {}, false
for index = 5, #ARGV, 3 do
  local place = ARGV[index + 1]
  if not hand_out(ARGV[index], ARGV[index + 2]) then
    refused = place
    break
  end
  handed_out[#handed_out + 1] = place
end

local reach = false
for _, place in ipairs(handed_out) do
  if (not refused or place < refused) and (not reach or place > reach) then
    reach = place
  end
end

local cursor = redis.call('HGET', STATE, 'cursor')
local complete = work_seq == '' or counter('work_seq') == tonumber(work_seq)
if refused and cursor and cursor >= refused then
  reset_cursor()
elseif reach and complete and (not cursor or cursor < reach) then
  redis.call('HSET', STATE, 'cursor', reach)
end
redis.call('HSET', STATE, 'standby_target', target)
redis.call('HDEL', STATE, 'filling_until', 'filled_at')
if standing_by() >= target then
  redis.call('HSET', STATE, 'filled_at', whole(now))
end

return {used(), standing_by(), refused and 1 or 0, grants.free, grants.holders}
