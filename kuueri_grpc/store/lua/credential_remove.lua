#!lua flags=allow-oom
-- credential_remove.lua: end a credential at once. A full one that does not run out always stays.
-- ARGS: project, key id, channel for changes of credentials
-- Returns: {'OK'} | {'MISSING'} | {'NO_TOKEN'} | {'LAST'}
-- Idempotent: what is gone is gone, and answered NO_TOKEN.
local project, key_id, channel = ARGS[1], ARGS[2], ARGS[3]
local credentials = CREDENTIALS .. project

if not project_open(project) then
  return { 'MISSING' }
end
drop_expired_credentials(project)
local removed, stays = nil, false
for id, kept in pairs(credentials_of(project)) do
  if id == key_id then
    removed = kept
  elseif is_full(kept) and not kept.x then
    stays = true
  end
end
if not removed or expired(removed) then
  return { 'NO_TOKEN' }
end
if not stays then
  return { 'LAST' }
end
call('HDEL', credentials, key_id)
call('PUBLISH', channel, project)
return { 'OK' }
