-- Begins a dispatch pass: the configuration of its process is put in force if that started last, slots that are free go to
-- those who stand by, and the pass is told what is free after that and from where to read on. From here on a new dispatch is
-- due again; for low standby only when this pass has filled it up, or has had the time to.
--
-- ARGV    1 share of the cap, 2 lease in ms, 3 '1' to read from the head, 4 cap, 5 rate interval in ms (0: no rate), 6 burst,
--         7 ms for which hints are handed out ahead, 8 time at which the process started, ms
-- Atomic  put in force, purge, count, hand over, clear the dispatch marker, mark that standby is being filled, and clear the
--         cursor if the pass reads from the head
-- Returns readiness, limit, free, pending, running, standing by, cursor or '', work_seq, ms since work was announced or -1,
--         dry, standby target of the last pass that took, ms since then or -1, granted holders

local FILLING_MS = 1000

put_limits(unpack(ARGV, 4, 8))
purge()
redis.call('HDEL', STATE, 'dispatch_until')
if ARGV[3] == '1' then
  -- Not only passed over: a later pass must not skip what this one finds at the head and has no slot for.
  reset_cursor()
end

local grants = open_grants()
hand_over(grants, math.huge)
if readiness() == 'ready' and standby_is_low() then
  redis.call('HSET', STATE, 'filling_until', whole(now + FILLING_MS))
end
local function since(field)
  local at = redis.call('HGET', STATE, field)
  return at and math.max(0, now - tonumber(at)) or -1
end
return {
  readiness(),
  limit_of(ARGV[1]),
  grants.free,
  redis.call('ZCARD', PENDING),
  redis.call('ZCARD', RUNNING),
  standing_by(),
  redis.call('HGET', STATE, 'cursor') or '',
  counter('work_seq'),
  since('work_at'),
  counter('dry'),
  counter('standby_target'),
  since('filled_at'),
  grants.holders,
}
