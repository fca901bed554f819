#!lua flags=allow-oom
-- project_drop.lua: remove what is left of a closed project that has no tasks any more.
-- ARGS: project
-- Returns: {'OK'}
-- Idempotent: what is gone is gone.
local project = ARGS[1]

use(EXECUTION_DB)
call('DEL', CLAIM .. '~' .. project)
use(TIMELINE_DB)
call('UNLINK', FEED .. project)
use(AUTHORISATION_DB)
call('DEL', PROJECT .. project, CREDENTIALS .. project)
call('ZREM', PROJECTS, project)
call('SREM', CLOSED, project)
return { 'OK' }
