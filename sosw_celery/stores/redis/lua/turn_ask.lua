-- Notes that somebody was asked to make a sweep, unless it is asked for already, or under way.
--
-- KEYS    1 the mark
-- ARGV    1 ms until it is asked for again, 2 ms that a mark can last
-- Atomic  look and set
-- Returns 1 if the caller is the one to ask

-- What lasts longer than any mark is of before the server's clock went back.
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], 'asked', 'PX', ARGV[1])
return 1
