#!lua flags=allow-oom
-- project_limit.lua: set how many live tasks a project may have.
-- ARGS: project, limit ('' what the servers give every project)
-- Returns: {'OK'} | {'MISSING'}
-- Idempotent: it sets a value. subscribe.lua reads it with every call, so it is exact from the next one on.
local project, limit = ARGS[1], ARGS[2]

if not project_open(project) then
  return { 'MISSING' }
end
use(AUTHORISATION_DB)
if limit == '' then
  call('HDEL', PROJECT .. project, 'taskInQueueLimit')
else
  call('HSET', PROJECT .. project, 'taskInQueueLimit', limit)
end
return { 'OK' }
