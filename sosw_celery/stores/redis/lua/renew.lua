-- Lengthens running leases, never shortens one.
--
-- ARGV    1 lease in ms, then holders
-- Atomic  all holders of one labourer
-- Returns the holders whose lease is gone: it ended, or was released
--
-- A lease that is gone stays gone, or another holder might have the slot by now. But as long as the store is missing or
-- settling nobody is granted anything, and what a node reports as running is the only knowledge of it there is: then it
-- gets its lease (back), which a rebuild keeps.

local lease_end = now + tonumber(ARGV[1])
local restore = readiness() ~= 'ready'

local lost = {}
for index = 2, #ARGV do
  local holder = ARGV[index]
  if restore or lives(RUNNING, holder) then
    lease(RUNNING, holder, lease_end)
  else
    lost[#lost + 1] = holder
  end
end
return lost
