#!lua flags=allow-oom
-- project_close.lua: begin to delete a project. Its credentials are gone, and it takes no task any more.
-- ARGS: project, channel for changes of credentials
-- Returns: {'OK'} | {'MISSING'}
-- Idempotent: a project that is closed stays as it is.
local project, channel = ARGS[1], ARGS[2]

if not project_exists(project) then
  return { 'MISSING' }
end
use(AUTHORISATION_DB)
call('DEL', CREDENTIALS .. project)
call('HSETNX', PROJECT .. project, 'closed', NOW)
call('SADD', CLOSED, project)
call('PUBLISH', channel, project)
return { 'OK' }
