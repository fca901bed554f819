#!lua flags=allow-oom
-- pause.lua: stop waiting and keep the remaining delay; hold a task whose attempt is in flight.
-- ARGS: project, task
-- Returns: {'OK', snapshot} | {'MISSING'} | {'ENDED', state}
-- Idempotent: a paused or held task stays as it is.
local project, id = ARGS[1], ARGS[2]
local name = project .. '/' .. id

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'state', 'queue', 'seq', 'due', 'lane', 'lost', 'create', 'deadline')
local state = t[1]
if not state then
  return { 'MISSING' }
end
if TERMINAL[state] then
  return { 'ENDED', state }
end

if state == 'DISPATCHING' then
  write(EXECUTION_DB, 'HSET', TASK .. name, 'hold', 1)
elseif WAITING[state] then
  dequeue_anywhere(project .. '/' .. t[2], t[5], t[6], id)
  await_start_no_more(name, t[8])
  local sequence = unfold(name, t[3], t[7], t[4])
  sequence = record(project, t[2], id, sequence, event('PAUSED', nil, 'BY_REQUEST'))
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'PAUSED', 'origin', state, 'seq', sequence,
    'left', int(math.max(0, tonumber(t[4]) - now)), 'due', '', 'early', '')
end
commit()
return { 'OK', snapshot(name) }
