-- Replaces the earliest due time by what a sweep found in the retry table.
--
-- ARGV    1 due time as a sortable text or '' for none, 2 count of notes as the sweep began or '' to replace in any case
-- Atomic  compare and set: if a retry was noted since, the sweep may not have seen it, and the earlier time stays
-- Returns nothing

local due, seen = ARGV[1], ARGV[2]
if seen ~= '' and counter('retries') ~= tonumber(seen) then
  local known = redis.call('HGET', STATE, 'next_retry_at')
  if due == '' or (known and known <= due) then
    return
  end
end
if due == '' then
  redis.call('HDEL', STATE, 'next_retry_at')
else
  redis.call('HSET', STATE, 'next_retry_at', due)
end
