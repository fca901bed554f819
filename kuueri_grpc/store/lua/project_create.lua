#!lua
-- project_create.lua: make a project with its first credential and signing secret.
-- ARGS: project, email, key id, credential (JSON), signing secrets (JSON, each sealed)
-- Returns: {'OK'}
-- Idempotent: the project id is random and made by the caller; the same call again writes the same.
local project = ARGS[1]
use(AUTHORISATION_DB)
if call('EXISTS', PROJECT .. project) == 0 then
  call('HSET', PROJECT .. project, 'id', project, 'email', ARGS[2], 'create', NOW,
    'taskInQueue', 0, 'signing', ARGS[5])
  local first = cjson.decode(ARGS[4])
  first.c = now
  call('HSET', CREDENTIALS .. project, ARGS[3], cjson.encode(first))
end
return { 'OK' }
