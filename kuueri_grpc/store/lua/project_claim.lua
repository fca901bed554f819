#!lua flags=allow-oom
-- project_claim.lua: be the one process that removes a closed project, for a while. Two of them would do no harm, but
-- the work of both.
-- ARGS: project, process, for how long (ms)
-- Returns: 1 it is the one, 0 another is, -1 there is no such project, or it is not closed
-- Idempotent: yes; the same call again makes it last longer.
local project, process, lasts = ARGS[1], ARGS[2], ARGS[3]
local claim = CLAIM .. '~' .. project -- of no instance: they have no '~' in their name

use(AUTHORISATION_DB)
if call('SISMEMBER', CLOSED, project) == 0 then
  return -1
end
use(EXECUTION_DB)
local holder = call('GET', claim)
if holder and holder ~= process then
  return 0
end
call('SET', claim, process, 'PX', lasts)
return 1
