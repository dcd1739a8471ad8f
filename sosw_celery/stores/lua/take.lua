-- Gives pending leases to the first holders of a stretch of the queue that have no lease yet.
--
-- ARGV    1 limit, 2 lease in ms, 3 rate interval in ms (0: no rate), 4 burst, 5 work_seq as the pass began or '' to
--         move the cursor in any case, then pairs: holder, place; in queue order
-- Atomic  purge, count, grant, spend tokens, move the cursor; nothing at all unless ready
-- Returns slots in use, ms until the next token as text (0 unless the rate refused), then the granted holders
--
-- The cursor ends at the last place up to which every holder has a lease: never at or past one that was refused, also if
-- another pass had moved it there. It stays if rows were announced or handed back since the pass began: they may stand
-- within the stretch, and the pass did not read them.

local limit, lease_end = tonumber(ARGV[1]), now + tonumber(ARGV[2])
local interval_ms, burst, work_seq = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

purge()
local in_use = used()
if readiness() ~= 'ready' then
  return {in_use, '0'}
end

local answer, tat, wait = {in_use, '0'}, bucket(interval_ms, burst), 0

local function grant(holder)
  wait = token_wait(tat, interval_ms, burst)
  if in_use >= limit or wait > 0 then
    wait = in_use < limit and wait or 0
    return false
  end
  redis.call('ZADD', PENDING, whole(lease_end), holder)
  in_use, tat = in_use + 1, tat + interval_ms
  answer[#answer + 1] = holder
  return true
end

local handed_out, refused = {}, false
for index = 6, #ARGV, 2 do
  local holder, place = ARGV[index], ARGV[index + 1]
  if not (lives(PENDING, holder) or lives(RUNNING, holder) or grant(holder)) then
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

if interval_ms > 0 and #answer > 2 then
  keep_bucket(tat)
end
answer[1], answer[2] = in_use, string.format('%.3f', wait)
return answer
