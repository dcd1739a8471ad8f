-- Gives the turn to sweep to one at a time.
--
-- KEYS    1 the mark
-- ARGV    1 who wants it, 2 ms that it lasts, 3 ms that a mark can last
-- Atomic  look and set; who has the turn keeps it for longer
-- Returns 1 if the caller has it now

local who = redis.call('GET', KEYS[1])
local is_anothers = who and who ~= 'asked' and who ~= ARGV[1]
-- What lasts longer than any mark is of before the server's clock went back.
if is_anothers and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[3]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
