#!lua flags=allow-oom
-- sweep.lua: drop index entries of tasks whose history has expired.
-- ARGS: how many at the most
-- Returns: how many were dropped
-- Idempotent: yes.
use(EXECUTION_DB)
local names = call('ZRANGE', ENDED, '-inf', '(' .. NOW, 'BYSCORE', 'LIMIT', 0, tonumber(ARGS[1]))
for _, name in ipairs(names) do
  call('ZREM', ENDED, name)
  -- The same id may have been subscribed anew since.
  if call('EXISTS', TASK .. name) == 0 then
    local project, id = split(name)
    call('ZREM', INDEX .. project, id)
  end
end
return #names
