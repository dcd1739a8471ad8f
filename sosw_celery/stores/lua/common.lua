-- Put before every script of the slot store: names of the keys, the time, and the rules that several scripts share.
--
-- KEYS  1 pending zset, 2 running zset, 3 state hash, 4 standby zset, 5 closing hash, all of one labourer. `slots.py` has
--       the table of what they hold.
-- Times are this server's clock in whole milliseconds. A lease lives while its end lies after now.
-- Numbers that Lua could not keep exactly (places in the queue, due times) are texts that sort as their numbers do.

local PENDING, RUNNING, STATE, STANDBY, CLOSING = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local DISPATCH_MARKER_MS = 5000

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- What this server calls itself since it started, or '' where its user may not ask (or it is the twin of the tests).
local function life_of_server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end

-- Forgets what another life of the server has left. It may be an old snapshot, or what a replica knew that became the
-- primary before it had heard of the last writes: leases that were granted since are not among it. Without them the
-- store is missing, and nodes report what they run.
local function enter_life()
  local life = life_of_server()
  if life ~= '' and redis.call('HGET', STATE, 'life') ~= life then
    redis.call('DEL', PENDING, RUNNING, STATE, STANDBY, CLOSING)
    redis.call('HSET', STATE, 'life', life)
  end
end

enter_life()

-- A number as text: Lua's own way would cut milliseconds since the epoch to 14 digits.
local function whole(number)
  return string.format('%.0f', number)
end

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
  end
end

local function used()
  return redis.call('ZCARD', PENDING) + redis.call('ZCARD', RUNNING)
end

local function readiness()
  local ready_at = redis.call('HGET', STATE, 'ready_at')
  if not ready_at then
    return 'missing'
  end
  return tonumber(ready_at) > now and 'settling' or 'ready'
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

-- The rate over the whole cluster (GCRA): `tat` is the time at which the bucket would be full again. An interval of 0
-- means no rate. A debt larger than the present rate could make (the rate was raised) is forgiven.
local function bucket(interval_ms, burst)
  local tat = tonumber(redis.call('HGET', STATE, 'tat') or now)
  return math.min(math.max(tat, now), now + burst * interval_ms)
end

-- Milliseconds until the bucket has a token, 0 if it has one.
local function token_wait(tat, interval_ms, burst)
  local wait = tat - now - (burst - 1) * interval_ms
  return wait < 0.001 and 0 or wait -- a double of this size cannot tell less from rounding
end

local function keep_bucket(tat)
  redis.call('HSET', STATE, 'tat', string.format('%.3f', tat))
end

local function standing_by()
  return redis.call('ZCARD', STANDBY)
end

local function has_lease(holder)
  return lives(PENDING, holder) or lives(RUNNING, holder)
end

-- Gives a holder a slot to run in.
local function run(holder, lease_end)
  redis.call('ZADD', RUNNING, whole(lease_end), holder)
  redis.call('ZREM', STANDBY, holder)
end

-- What may be granted now, by the arguments of a script that begin with limit, lease in ms, rate interval in ms (0: no
-- rate), burst; and what was. Call it after a purge.
local function open_grants()
  local limit, lease_ms, interval_ms, burst = unpack(ARGV, 1, 4)
  return {
    free = readiness() == 'ready' and math.max(0, tonumber(limit) - used()) or 0,
    lease_end = now + tonumber(lease_ms),
    interval_ms = tonumber(interval_ms),
    burst = tonumber(burst),
    tat = bucket(tonumber(interval_ms), tonumber(burst)),
    holders = {},
  }
end

-- Milliseconds until the rate allows the next grant.
local function rate_wait(grants)
  return token_wait(grants.tat, grants.interval_ms, grants.burst)
end

-- Gives pending leases to those who stand by, the first in the queue first, as far as free slots and the rate go and
-- until `at_most` were granted.
local function hand_over(grants, at_most)
  while grants.free > 0 and #grants.holders < at_most and rate_wait(grants) == 0 do
    local holder = redis.call('ZPOPMIN', STANDBY)[1]
    if not holder then
      return
    end
    if not has_lease(holder) then
      redis.call('ZADD', PENDING, whole(grants.lease_end), holder)
      grants.free, grants.tat = grants.free - 1, grants.tat + grants.interval_ms
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

-- Whether somebody stands by beside a slot that these grants left free, and no dispatch comes for that.
local function is_stuck(grants)
  return standing_by() > 0 and grants.free > 0 and (rate_wait(grants) == 0 or counter('wake_at') <= now)
end

-- Takes the tokens that were spent out of the bucket, and returns the holders.
local function close_grants(grants)
  if grants.interval_ms > 0 and #grants.holders > 0 then
    keep_bucket(grants.tat)
  end
  return grants.holders
end
