#!lua flags=allow-oom
-- purge.lua: delete an ended or paused task with its timeline; a paused one is canceled first. Its events stay in the
-- project's feed, whose numbers have no gaps, and its latest ones for a moment where who follows it reads them.
-- ARGS: project, task, operation, how long a repeated call is recognised (ms)
-- Returns: {'OK'} | {'MISSING'} | {'RUNNING', state}
-- Idempotent: the operation is kept for a while; the same one again answers OK.
local project, id, operation, lasts = ARGS[1], ARGS[2], ARGS[3], ARGS[4]
local name = project .. '/' .. id
local LATEST, MOMENT = 1000, 60000 -- events that are kept a moment longer; that moment (ms)
-- No request_id has a '~', so this cannot be one.
local trace = '~' .. operation

use(EXECUTION_DB)
if call('EXISTS', REQUEST .. project .. '/' .. trace) == 1 then
  return { 'OK' } -- and if there is such a task again, it is another one
end
local t = call('HMGET', TASK .. name, 'state', 'queue', 'seq', 'create')
local state = t[1]
if not state then
  return { 'MISSING' }
end
if state ~= 'PAUSED' and not TERMINAL[state] then
  return { 'RUNNING', state }
end

use(TIMELINE_DB)
local events = redis.pcall('LRANGE', TIMELINE .. name, -LATEST, -1)
if events.err then
  events = {} -- it is no list, and goes all the same
end
if state == 'PAUSED' then
  local canceled = line((tonumber(t[3]) or 0) + 1, NOW, unpack(event('CANCELED', nil, 'BY_REQUEST')))
  events[#events + 1] = canceled
  tell(project, (t[2] or 'default') .. '/' .. id, canceled)
  count_live(project, -1)
end
if #events > 0 then
  local created = t[4] or ''
  local kept = purged_timeline(project, id, created)
  write(EXECUTION_DB, 'DEL', kept)
  write(EXECUTION_DB, 'RPUSH', kept, unpack(events))
  write(EXECUTION_DB, 'PEXPIRE', kept, MOMENT)
  list_name(project, id .. '/' .. created)
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
