-- Notes what a sweep has dealt with.
--
-- ARGV    1 closes seen, 2 lapses seen or '' if the sweep did not look for lost tasks, 3 '1' if it read everything
-- Atomic  all of it; a sweep that saw less than another one takes nothing back
-- Returns nothing

local function swept(field, seen)
  -- Seen may be of before a flush; counting has begun anew then.
  local mark = math.min(tonumber(seen), counter(field))
  if mark > counter(field .. '_swept') then
    redis.call('HSET', STATE, field .. '_swept', whole(mark))
  end
end

swept('closes', ARGV[1])
if ARGV[2] ~= '' then
  swept('lapses', ARGV[2])
end
if ARGV[3] == '1' then
  redis.call('HSET', STATE, 'full_sweep_at', whole(now))
end
