#!lua
-- credential_add.lua: add a credential to a project.
-- ARGS: project, key id, credential (JSON), time to live (ms or '' for ever), most credentials of a project
-- Returns: {'OK', create, expiry or ''} | {'MISSING'} | {'FULL'} | {'TAKEN'} (the key id, by another credential)
-- Idempotent: a credential that is there already stays as it is, and its times are answered.
local project, key_id, added = ARGS[1], ARGS[2], cjson.decode(ARGS[3])
local ttl, most = tonumber(ARGS[4]), tonumber(ARGS[5])
local credentials = CREDENTIALS .. project

if not project_open(project) then
  return { 'MISSING' }
end
use(AUTHORISATION_DB)
local there = call('HGET', credentials, key_id)
if there then
  there = cjson.decode(there)
  if there.h ~= added.h then
    return { 'TAKEN' }
  end
  return { 'OK', there.c, there.x or '' }
end
drop_expired_credentials(project)
if call('HLEN', credentials) >= most then
  return { 'FULL' }
end
added.c = now
added.x = ttl and now + ttl or nil
call('HSET', credentials, key_id, cjson.encode(added))
return { 'OK', added.c, added.x or '' }
