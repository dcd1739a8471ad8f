-- Begins a dispatch pass: slots that are free go to those who stand by, and it is told what is free after that and from
-- where to read on. From here on a new dispatch is due again; for low standby only when this pass has filled it up, or has
-- had the time to.
--
-- ARGV    1 limit, 2 lease in ms, 3 rate interval in ms (0: no rate), 4 burst, 5 '1' to read from the head
-- Atomic  purge, count, hand over, clear the dispatch marker, mark that standby is being filled, and clear the cursor if the
--         pass reads from the head
-- Returns readiness, free, pending, running, standing by, cursor or '', work_seq, ms since work was announced or -1, dry,
--         rate wait in ms as text, standby target of the last pass that took, ms since then or -1, granted holders

local FILLING_MS = 1000

purge()
redis.call('HDEL', STATE, 'dispatch_until')
if ARGV[5] == '1' then
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
  grants.free,
  redis.call('ZCARD', PENDING),
  redis.call('ZCARD', RUNNING),
  standing_by(),
  redis.call('HGET', STATE, 'cursor') or '',
  counter('work_seq'),
  since('work_at'),
  counter('dry'),
  string.format('%.3f', rate_wait(grants)),
  counter('standby_target'),
  since('filled_at'),
  close_grants(grants),
}
