#!lua flags=allow-oom
-- run.lua: make a waiting or paused task due now.
-- ARGS: project, task, operation (of this call alone, or of its request_id), most operations to keep
-- Returns: {'OK', snapshot} | {'MISSING'} | {'ENDED', state} | {'RUNNING', state}
-- Idempotent: the latest operations are kept (`ran`, the newest first); one of them again changes nothing.
local project, id, operation, most = ARGS[1], ARGS[2], ARGS[3], tonumber(ARGS[4])
local name = project .. '/' .. id

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'state', 'queue', 'seq', 'origin', 'ran', 'lane', 'lost', 'create', 'due',
  'deadline')
local state = t[1]
if not state then
  return { 'MISSING' }
end
local ran, kept = operation, 1
for earlier in string.gmatch(t[5] or '', '%S+') do
  if earlier == operation then
    return { 'OK', snapshot(name) }
  end
  if kept < most then
    ran, kept = ran .. ' ' .. earlier, kept + 1
  end
end
if TERMINAL[state] then
  return { 'ENDED', state }
end
if state == 'DISPATCHING' then
  return { 'RUNNING', state }
end

local sequence = unfold(name, t[3], t[8], t[9])
if state == 'PAUSED' then
  sequence = record(project, t[2], id, sequence, event('RESUMED', nil, 'RUN_NOW', NOW))
  state = t[4]
end
write(EXECUTION_DB, 'HSET', TASK .. name, 'state', state, 'due', NOW, 'seq', sequence, 'early', 1,
  'ran', ran, 'left', '')
dequeue_from_lanes(project .. '/' .. t[2], t[6], t[7], id)
enqueue(project .. '/' .. t[2], id, NOW)
await_start_no_more(name, t[10]) -- it runs now, however late that is
commit()
return { 'OK', snapshot(name) }
