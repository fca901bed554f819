#!lua
-- project_create.lua: make a project with its first credential and signing secret, or make these anew where the
-- answer to the call that made it was lost.
-- ARGS: project, email, key id, credential (JSON), signing secrets (JSON, each sealed), request ('' not to be
--       repeated), how long the call may be repeated (ms), '1' if the project may be made ('' it was there), channel
--       for changes of credentials
-- Returns: {'OK'} | {'EXISTS'}: the project is another call's | {'TAKEN'} (the key id, by another credential)
-- Idempotent: the same call again writes the same. The same request again, with another credential, puts that, and
-- the signing secrets, in the place of those that it made before.
local project, key_id, added, signing = ARGS[1], ARGS[3], cjson.decode(ARGS[4]), ARGS[5]
local request, remember, may_make, channel = ARGS[6], tonumber(ARGS[7]), ARGS[8] == '1', ARGS[9]
local facts_key, credentials = PROJECT .. project, CREDENTIALS .. project

use(AUTHORISATION_DB)
local facts = call('HMGET', facts_key, 'id', 'closed', 'create', 'madeBy', 'madeKey')
if not facts[1] then
  if not may_make then
    return { 'EXISTS' } -- it was dropped a moment ago: its address is free in a moment
  end
  call('HSET', facts_key, 'id', project, 'email', ARGS[2], 'create', NOW, 'taskInQueue', 0, 'signing', signing,
    'madeBy', request, 'madeKey', key_id)
  added.c = now
  call('HSET', credentials, key_id, cjson.encode(added))
  call('ZADD', PROJECTS, 0, project)
  return { 'OK' }
end
if facts[2] then
  return { 'EXISTS' }
end
local first = call('HGET', credentials, facts[5] or '')
first = first and cjson.decode(first)
if facts[5] == key_id and first and first.h == added.h then
  return { 'OK' }
end
local repeatable = request ~= '' and facts[4] == request and now < tonumber(facts[3]) + remember
if not repeatable or not first or first.x then
  return { 'EXISTS' } -- that its first token was rotated or revoked shows that it came
end
if key_id ~= facts[5] and call('HEXISTS', credentials, key_id) == 1 then
  return { 'TAKEN' }
end
added.c = now
call('HDEL', credentials, facts[5])
call('HSET', credentials, key_id, cjson.encode(added))
call('HSET', facts_key, 'signing', signing, 'madeKey', key_id)
call('PUBLISH', channel, project)
return { 'OK' }
