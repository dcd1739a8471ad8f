-- Gives a turn back.
--
-- KEYS    1 the mark
-- ARGV    1 who has it, 2 ms until the next one may begin
-- Atomic  look and delete, or shorten; nothing if it is another's by now
-- Returns nothing

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return
end
if tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
