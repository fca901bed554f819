#!lua flags=allow-oom
-- project_erase.lua: remove tasks of a closed project whose tasks have all ended, with all that is kept of them.
-- ARGS: project, how many at the most
-- Returns: how many are left
-- Idempotent: what is gone is gone.
local project, limit = ARGS[1], tonumber(ARGS[2])

use(EXECUTION_DB)
local index = INDEX .. project
for _, id in ipairs(call('ZRANGE', index, 0, limit - 1)) do
  local name = project .. '/' .. id
  write(EXECUTION_DB, 'UNLINK', TASK .. name)
  write_member(EXECUTION_DB, 'ZREM', index, id)
  write_member(EXECUTION_DB, 'ZREM', ENDED, name)
  write(CONFIGURATION_DB, 'UNLINK', CONFIG .. name)
  write(TIMELINE_DB, 'UNLINK', TIMELINE .. name)
end
commit()
use(EXECUTION_DB)
return call('ZCARD', index)
