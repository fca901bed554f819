#!lua flags=allow-oom
-- project_erase.lua: remove what project_end.lua left: tasks of a closed project whose attempts have been stopped.
-- ARGS: project, how many at the most
-- Returns: {how many were removed, how many are left}
-- Idempotent: what is gone is gone.
local project, limit = ARGS[1], tonumber(ARGS[2])

use(EXECUTION_DB)
local ids = call('ZRANGE', INDEX .. project, 0, limit - 1)
for _, id in ipairs(ids) do
  erase(project, id)
end
commit()
use(EXECUTION_DB)
return { #ids, call('ZCARD', INDEX .. project) }
