#!lua flags=no-writes
-- get.lua: read a task.
-- ARGS: project, task
-- Returns: {'OK', snapshot} | {'MISSING'}
-- Idempotent: reads only.
local name = ARGS[1] .. '/' .. ARGS[2]
use(EXECUTION_DB)
if call('EXISTS', TASK .. name) == 0 then
  return { 'MISSING' }
end
return { 'OK', snapshot(name) }
