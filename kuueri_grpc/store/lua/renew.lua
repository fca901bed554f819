#!lua flags=allow-oom
-- renew.lua: extend leases that are still held.
-- ARGS: lease (ms), number of leases, then for each: project, task, token
-- Returns: the places (1, 2, ...) of those that are not held any more
-- Idempotent: yes; the same call again only extends further.
local lease, count = tonumber(ARGS[1]), tonumber(ARGS[2])
local lost = {}
use(EXECUTION_DB)
for i = 1, count do
  local at = 3 + (i - 1) * 3
  local name = ARGS[at] .. '/' .. ARGS[at + 1]
  if call('HGET', TASK .. name, 'token') == ARGS[at + 2] then
    write_member(EXECUTION_DB, 'ZADD', LEASES, int(now + lease), name)
  else
    lost[#lost + 1] = i
  end
end
commit()
return lost
