-- lib_deletion.lua: how what is kept of a task is removed. Put behind the prelude of the scripts that remove a
-- closed project, see scripts.py.

local function erase(project, id)
  local name = project .. '/' .. id
  write(EXECUTION_DB, 'UNLINK', TASK .. name)
  write_member(EXECUTION_DB, 'ZREM', INDEX .. project, id)
  write_member(EXECUTION_DB, 'ZREM', ENDED, name)
  write_member(EXECUTION_DB, 'ZREM', DEADLINES, name)
  write_member(EXECUTION_DB, 'ZREM', LEASES, name) -- if its record does not say that it is in flight
  write(CONFIGURATION_DB, 'UNLINK', CONFIG .. name)
  write(TIMELINE_DB, 'UNLINK', TIMELINE .. name)
end
