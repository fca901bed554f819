#!lua flags=allow-oom
-- resume.lua: wait for the delay that was left when the task was paused.
-- ARGS: project, task
-- Returns: {'OK', snapshot} | {'MISSING'} | {'ENDED', state}
-- Idempotent: a task that is not paused stays as it is; a hold that has not begun is dropped.
local project, id = ARGS[1], ARGS[2]
local name = project .. '/' .. id

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'state', 'queue', 'seq', 'left', 'origin', 'deadline', 'attempt')
local state = t[1]
if not state then
  return { 'MISSING' }
end
if TERMINAL[state] then
  return { 'ENDED', state }
end

if state == 'DISPATCHING' then
  write(EXECUTION_DB, 'HSET', TASK .. name, 'hold', '')
elseif state == 'PAUSED' then
  local due = int(now + tonumber(t[4]))
  local sequence = record(project, t[2], id, tonumber(t[3]), event('RESUMED', nil, 'BY_REQUEST', due))
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', t[5], 'due', due, 'seq', sequence, 'left', '')
  enqueue(project .. '/' .. t[2], id, due)
  await_start(name, due, not t[7] and t[6])
end
commit()
return { 'OK', snapshot(name) }
