#!lua flags=allow-oom
-- cancel.lua: end a task as CANCELED and take the attempt in flight from its holder.
-- ARGS: project, task
-- Returns: {'OK', snapshot, token or '', holder or '', lease left (ms)} | {'MISSING'} | {'ENDED', state}
-- Idempotent: a canceled task answers as it did the first time, with the attempt that was revoked.
local project, id = ARGS[1], ARGS[2]
local name = project .. '/' .. id

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, unpack(CANCELABLE))
local state = t[1]
if not state then
  return { 'MISSING' }
end
if TERMINAL[state] and state ~= 'CANCELED' then
  return { 'ENDED', state }
end

if state ~= 'CANCELED' then
  cancel(project, id, t, 'BY_REQUEST')
  commit()
end
local token, holder, left = revoked(name)
return { 'OK', snapshot(name), token, holder, left }
