#!lua flags=allow-oom
-- purge.lua: delete every trace of an ended or paused task.
-- ARGV: project, task, operation, how long a repeated call is recognised (ms)
-- Returns: {'OK'} | {'MISSING'} | {'RUNNING', state}
-- Idempotent: the operation is kept for a while; the same one again answers OK.
local project, id, operation, remember = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name = project .. '/' .. id
-- No request_id has a '~', so this cannot be one.
local trace = REQUEST .. project .. '/~' .. operation

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'state', 'queue')
local state = t[1]
if not state then
  if call('EXISTS', trace) == 1 then
    return { 'OK' }
  end
  return { 'MISSING' }
end
if state ~= 'PAUSED' and not TERMINAL[state] then
  return { 'RUNNING', state }
end

call('SET', trace, id, 'PX', remember)
call('DEL', TASK .. name)
call('ZREM', INDEX .. project, id)
call('ZREM', ENDED, name)
use(CONFIGURATION_DB)
call('DEL', CONFIG .. name)
use(TIMELINE_DB)
call('DEL', TIMELINE .. name)
-- Watchers look, and find that it is gone.
call('PUBLISH', WATCH .. name, 0)
if state == 'PAUSED' then
  use(AUTHORISATION_DB)
  if call('EXISTS', PROJECT .. project) == 1 then
    call('HINCRBY', PROJECT .. project, 'taskInQueue', -1)
  end
end
return { 'OK' }
