#!lua flags=no-writes
-- get.lua: read a task.
-- ARGV: project, task
-- Returns: {'OK', snapshot} | {'MISSING'}
-- Idempotent: reads only.
local name = ARGV[1] .. '/' .. ARGV[2]
use(EXECUTION_DB)
if call('EXISTS', TASK .. name) == 0 then
  return { 'MISSING' }
end
return { 'OK', snapshot(name) }
