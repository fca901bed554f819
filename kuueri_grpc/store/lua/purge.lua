#!lua flags=allow-oom
-- purge.lua: delete an ended or paused task with its timeline. Its events stay in the project's feed, whose
-- numbers have no gaps.
-- ARGS: project, task, operation, how long a repeated call is recognised (ms)
-- Returns: {'OK'} | {'MISSING'} | {'RUNNING', state}
-- Idempotent: the operation is kept for a while; the same one again answers OK.
local project, id, operation, lasts = ARGS[1], ARGS[2], ARGS[3], ARGS[4]
local name = project .. '/' .. id
-- No request_id has a '~', so this cannot be one.
local trace = '~' .. operation

use(EXECUTION_DB)
if call('EXISTS', REQUEST .. project .. '/' .. trace) == 1 then
  return { 'OK' } -- and if there is such a task again, it is another one
end
local state = call('HGET', TASK .. name, 'state')
if not state then
  return { 'MISSING' }
end
if state ~= 'PAUSED' and not TERMINAL[state] then
  return { 'RUNNING', state }
end

if state == 'PAUSED' then
  count_live(project, -1)
end
remember(project, trace, id, lasts)
write(EXECUTION_DB, 'DEL', TASK .. name)
write(EXECUTION_DB, 'ZREM', INDEX .. project, id)
write(EXECUTION_DB, 'ZREM', ENDED, name)
write(CONFIGURATION_DB, 'DEL', CONFIG .. name)
write(TIMELINE_DB, 'DEL', TIMELINE .. name)
messages[WATCH .. name] = 0 -- watchers look, and find that it is gone
commit()
return { 'OK' }
