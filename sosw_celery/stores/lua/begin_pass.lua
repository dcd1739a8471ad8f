-- Begins a dispatch pass: tells what is free and from where to read on. From here on a new dispatch is due again.
--
-- ARGV    1 limit, 2 '1' to read from the head, 3 rate interval in ms (0: no rate), 4 burst
-- Atomic  purge, count, clear the dispatch marker, and the cursor if the pass reads from the head
-- Returns readiness, free, pending, running, cursor or '', work_seq, ms since work was announced or -1, dry, rate wait
--         in ms as text

local limit, interval_ms, burst = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])

purge()
redis.call('HDEL', STATE, 'dispatch_until')
if ARGV[2] == '1' then
  -- Not only passed over: a later pass must not skip what this one finds at the head and has no slot for.
  reset_cursor()
end

local ready = readiness()
local pending, running = redis.call('ZCARD', PENDING), redis.call('ZCARD', RUNNING)
local work_at = redis.call('HGET', STATE, 'work_at')
return {
  ready,
  ready == 'ready' and math.max(0, limit - pending - running) or 0,
  pending,
  running,
  redis.call('HGET', STATE, 'cursor') or '',
  counter('work_seq'),
  work_at and now - tonumber(work_at) or -1,
  counter('dry'),
  string.format('%.3f', token_wait(bucket(interval_ms, burst), interval_ms, burst)),
}
