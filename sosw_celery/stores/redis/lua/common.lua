-- Put before every script of the slot store: names of the keys, the time, and the rules that several scripts share.
--
-- KEYS  1 pending zset, 2 running zset, 3 state hash, 4 standby zset, 5 closing hash, 6 waiting set, all of one labourer.
--       `slots.py` has the table of what they hold.
-- Times are this server's clock in milliseconds. A lease lives while its end lies after now.
-- Numbers that Lua could not keep exactly (places in the queue, due times) are texts that sort as their numbers do.

local PENDING, RUNNING, STATE, STANDBY, CLOSING, WAITING = unpack(KEYS, 1, 6)
local DISPATCH_MARKER_MS = 5000
-- By so much a clock goes back in daily life, and so often it is noted that somebody asked.
local CLOCK_WAVERS_MS, SEEN_EVERY_MS = 1000, 100
-- Fields of the state that are times by this clock.
local TIMES = {
  'ready_at', 'limits_at', 'work_at', 'filled_at', 'filling_until', 'look_at', 'dispatch_until', 'tat', 'full_sweep_at',
}
-- A share of the cap like 0.29 of 100 is a hair below what it means.
local ROUNDING = 1e-9

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- A number as text: Lua's own way would cut milliseconds since the epoch to 14 digits.
local function whole(number)
  return string.format('%.0f', number)
end

-- What most scripts ask of the state, read in one call. `ready_at` and `lease_ms` are nil while missing.
local known
local function read_state()
  local fields = redis.call(
    'HMGET', STATE, 'life', 'seen_at', 'lease_ms', 'ready_at', 'cap', 'interval_ms', 'burst', 'ahead_ms'
  )
  known = {
    life = fields[1],
    seen_at = tonumber(fields[2] or now - SEEN_EVERY_MS - 1),
    lease_ms = fields[3] and tonumber(fields[3]) or nil,
    ready_at = fields[4] and tonumber(fields[4]) or nil,
    cap = tonumber(fields[5] or 0),
    interval_ms = tonumber(fields[6] or 0),
    burst = tonumber(fields[7] or 0),
    ahead_ms = tonumber(fields[8] or 0),
  }
end

-- What this server calls itself since it started, or '' where its user may not ask (or it is the twin of the tests).
local function life_of_server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end

-- Moves all that is kept as a time, as the clock was moved.
local function move_times(by_ms)
  for _, key in ipairs({PENDING, RUNNING}) do
    local leases = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for index = 1, #leases, 2 do
      redis.call('ZINCRBY', key, whole(by_ms), leases[index])
    end
  end
  for _, field in ipairs(TIMES) do
    local at = redis.call('HGET', STATE, field)
    if at then
      redis.call('HSET', STATE, field, string.format('%.3f', tonumber(at) + by_ms))
    end
  end
end

-- Has every lease last for so long at least, and what was left of the time to settle. Once: half a millisecond tells what
-- was lengthened before; a lease that its node renews ends at a whole one again.
local function lengthen(least_ms)
  local ready_at, seen_at = known.ready_at or 0, known.seen_at
  if ready_at > seen_at and ready_at % 1 == 0 then
    redis.call('HSET', STATE, 'ready_at', whole(now + ready_at - seen_at) .. '.5')
  end
  local lease_end = whole(now + least_ms) .. '.5'
  for _, key in ipairs({PENDING, RUNNING}) do
    local leases = redis.call('ZRANGEBYSCORE', key, '-inf', lease_end, 'WITHSCORES')
    for index = 1, #leases, 2 do
      if tonumber(leases[index + 1]) % 1 == 0 then
        redis.call('ZADD', key, lease_end, leases[index])
      end
    end
  end
end

-- Has the rate's bucket be as empty as it was so long ago: what came due meanwhile by a clock that went ahead did not.
local function delay_tokens(by_ms)
  local tat = redis.call('HGET', STATE, 'tat')
  if tat then
    redis.call('HSET', STATE, 'tat', string.format('%.3f', tonumber(tat) + by_ms))
  end
end

-- Every script begins with this. It forgets what another life of the server has left: that may be an old snapshot, or what
-- a replica knew that became the primary before it had heard of the last writes; leases that were granted since are not
-- among it. Without them the store is missing, and nodes report what they run.
--
-- And it minds that clocks jump. Nodes that run something give a sign of life every few seconds: where nobody was seen for
-- half a lease, the clock went ahead, or the server stood still, or nobody lives. Whichever it is, leases last until nodes
-- had the time to renew them, and no token of the rate came due. Where the clock went back, all times go back with it.
local function enter()
  local life = life_of_server()
  read_state()
  if life ~= '' and known.life ~= life then
    redis.call('DEL', PENDING, RUNNING, STATE, STANDBY, CLOSING, WAITING)
    redis.call('HSET', STATE, 'life', life)
    read_state()
  end
  local unseen_ms = now - known.seen_at
  if unseen_ms < -CLOCK_WAVERS_MS then
    move_times(unseen_ms)
    read_state()
  elseif known.lease_ms and unseen_ms > known.lease_ms / 2 then
    lengthen(known.lease_ms / 2)
    delay_tokens(unseen_ms)
    read_state()
  end
  if math.abs(unseen_ms) > SEEN_EVERY_MS then
    redis.call('HSET', STATE, 'seen_at', whole(now))
  end
end

enter()

local function counter(field)
  return tonumber(redis.call('HGET', STATE, field) or 0)
end

-- The next pass reads from the head, and a pass that is under way neither moves the cursor nor calls the queue dry.
local function reset_cursor()
  redis.call('HDEL', STATE, 'cursor')
  redis.call('HINCRBY', STATE, 'work_seq', 1)
end

-- A task that may be queued still lost its lease, and stands behind the cursor.
local handed_back = false
local function hand_back()
  redis.call('HDEL', STATE, 'dry', 'look_at')
  reset_cursor()
  handed_back = true
end

-- Drops the leases that have ended. They were lost, with a node or a message: the scavenger wants to know.
local function purge()
  local lost = redis.call('ZREMRANGEBYSCORE', PENDING, '-inf', whole(now))
    + redis.call('ZREMRANGEBYSCORE', RUNNING, '-inf', whole(now))
  if lost > 0 then
    redis.call('HINCRBY', STATE, 'lapses', lost)
    hand_back()
    for _, holder in ipairs(redis.call('SMEMBERS', WAITING)) do
      if not redis.call('ZSCORE', RUNNING, holder) then
        redis.call('SREM', WAITING, holder)
      end
    end
  end
end

local function used()
  return redis.call('ZCARD', PENDING) + redis.call('ZCARD', RUNNING)
end

local function readiness()
  if not known.ready_at then
    return 'missing'
  end
  return known.ready_at > now and 'settling' or 'ready'
end

local function lives(key, holder)
  local lease_end = redis.call('ZSCORE', key, holder)
  return lease_end and tonumber(lease_end) > now
end

-- Sets the end of a lease; never to an earlier time than it has.
local function lease(key, holder, lease_end)
  local present = redis.call('ZSCORE', key, holder)
  if not present or tonumber(present) < lease_end then
    redis.call('ZADD', key, whole(lease_end), holder)
  end
end

-- Once 1, until a pass begins or the marker runs out (then the message was lost): who gets it sends a dispatch.
local function claim_dispatch()
  if counter('dispatch_until') > now then
    return 0
  end
  redis.call('HSET', STATE, 'dispatch_until', whole(now + DISPATCH_MARKER_MS))
  return 1
end

-- The rate in force over the whole cluster (GCRA): ms from one start to the next when they come evenly, how many may come at
-- once after a pause, and for how many ms ahead hints are handed out and tokens promised. An interval of 0: no rate.
local function rate()
  return known.interval_ms, known.burst, known.ahead_ms
end

-- The time at which the bucket would be full again. A debt larger than the present rate could make (the rate was raised) is
-- forgiven.
local function bucket()
  local interval_ms, burst, ahead_ms = rate()
  local tat = tonumber(redis.call('HGET', STATE, 'tat') or now)
  return math.min(math.max(tat, now), now + burst * interval_ms + ahead_ms)
end

local function keep_bucket(tat)
  redis.call('HSET', STATE, 'tat', string.format('%.3f', tat))
end

-- Has no token come before all that may have been promised so far are spent.
local function empty_bucket(promised_ms)
  local interval_ms, burst = rate()
  if interval_ms > 0 then
    keep_bucket(now + burst * interval_ms + promised_ms)
  end
end

-- Puts a configuration's cap and rate in force, unless it is that of a process which started no later than the one whose
-- configuration is. A rate that is changed begins with an empty bucket.
local function put_limits(cap, interval_ms, burst, ahead_ms, at)
  if known.cap > 0 and tonumber(at) <= counter('limits_at') then
    return
  end
  local before_ms, burst_before, ahead_before_ms = rate()
  if before_ms == 0 then
    redis.call('DEL', WAITING) -- who ended while there was no rate has not been taken out
  end
  redis.call(
    'HSET', STATE, 'cap', cap, 'interval_ms', interval_ms, 'burst', burst, 'ahead_ms', ahead_ms, 'limits_at', at
  )
  read_state()
  if before_ms > 0 and (before_ms ~= tonumber(interval_ms) or burst_before ~= tonumber(burst)) then
    empty_bucket(ahead_before_ms)
  end
end

-- How many may run now, of the cap in force, where health leaves a labourer this share of it.
local function limit_of(share)
  return math.floor(known.cap * tonumber(share) + ROUNDING)
end

-- How many more may get a slot now, beside so many pending and running ones. Where there is a rate, no more than tokens come
-- due while a hint waits, counting those for whom they come.
local function room(share, pending, running)
  if readiness() ~= 'ready' then
    return 0
  end
  local free = limit_of(share) - pending - running
  local interval_ms, burst, ahead_ms = rate()
  if interval_ms > 0 then
    local tokens = math.floor((now + ahead_ms + burst * interval_ms - bucket()) / interval_ms + ROUNDING)
    free = math.min(free, tokens - pending - redis.call('SCARD', WAITING))
  end
  return math.max(0, free)
end

local function standing_by()
  return redis.call('ZCARD', STANDBY)
end

local function has_lease(holder)
  return lives(PENDING, holder) or lives(RUNNING, holder)
end

-- Has a holder not wait for the rate any more.
local function end_wait(holder)
  if rate() > 0 then
    redis.call('SREM', WAITING, holder)
  end
end

-- Gives a holder a slot to run in, and has it wait for the rate where there is one. Returns whether there is, as 0 or 1.
local function run(holder, lease_end)
  redis.call('ZADD', RUNNING, whole(lease_end), holder)
  redis.call('ZREM', STANDBY, holder)
  if rate() == 0 then
    return 0
  end
  redis.call('SADD', WAITING, holder)
  return 1
end

-- What may be granted now, by the arguments of a script that begin with the share of the cap and the lease in ms; and what
-- was. Call it after a purge.
local function open_grants()
  return {
    free = room(ARGV[1], redis.call('ZCARD', PENDING), redis.call('ZCARD', RUNNING)),
    lease_end = now + tonumber(ARGV[2]),
    holders = {},
  }
end

-- Gives pending leases to those who stand by, the first in the queue first, as far as there is room and until `at_most` were
-- granted.
local function hand_over(grants, at_most)
  while grants.free > 0 and #grants.holders < at_most do
    local holder = redis.call('ZPOPMIN', STANDBY)[1]
    if not holder then
      return
    end
    if not has_lease(holder) then
      redis.call('ZADD', PENDING, whole(grants.lease_end), holder)
      grants.free = grants.free - 1
      grants.holders[#grants.holders + 1] = holder
    end
  end
end

-- Counts an end, and returns whether an archive sweep is due after it.
local function count_end(archive_every)
  local waiting = redis.call('HINCRBY', STATE, 'closes', 1) - counter('closes_swept')
  return waiting > 0 and waiting % archive_every == 0 and 1 or 0
end

-- Whether standby has run low, the queue may fill it up, and no pass is about to.
local function standby_is_low()
  local read_to_end = redis.call('HGET', STATE, 'dry') or counter('look_at') > now
  return standing_by() * 2 <= counter('standby_target') and not read_to_end and counter('filling_until') <= now
end

-- Whether somebody stands by although these grants left room.
local function is_stuck(grants)
  return standing_by() > 0 and grants.free > 0
end
