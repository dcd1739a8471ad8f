-- Counts the close of an attempt that keeps its slot; `release` counts all others, and this one once more when it ends.
--
-- ARGV    1 number of ends after which an archive sweep is due
-- Atomic  all of it
-- Returns archive due

local waiting = redis.call('HINCRBY', STATE, 'closes', 1) - counter('closes_swept')
return waiting > 0 and waiting % tonumber(ARGV[1]) == 0 and 1 or 0
