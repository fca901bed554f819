#!lua flags=no-writes
-- timeline.lua: read events after a sequence, with the task as it is in the same instant.
-- ARGS: project, task, after sequence, limit
-- Returns: {'OK', snapshot, first sequence kept, events (JSON)} | {'MISSING'}
-- Idempotent: reads only.
local name, after, limit = ARGS[1] .. '/' .. ARGS[2], tonumber(ARGS[3]), tonumber(ARGS[4])

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'seq', 'create', 'due')
local last = tonumber(t[1])
if not last then
  return { 'MISSING' }
end
if last == 0 then
  return { 'OK', snapshot(name), 1, after < 1 and limit > 0 and { subscribed_line(t[2], t[3]) } or {} }
end
use(TIMELINE_DB)
local first = last - call('LLEN', TIMELINE .. name) + 1
local from = math.max(0, after + 1 - first)
local events = call('LRANGE', TIMELINE .. name, from, from + limit - 1)
return { 'OK', snapshot(name), first, events }
