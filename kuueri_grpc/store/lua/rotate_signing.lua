#!lua flags=allow-oom
-- rotate_signing.lua: sign with a new secret, with the former one beside it for a grace time.
-- ARGS: project, secret (sealed), grace (ms), most secrets of a project
-- Returns: {'OK', when the former one ends} | {'MISSING'} | {'SECRETS_FULL'}
-- Idempotent: a secret that is the newest already, as it was sealed, changes nothing.
local project, secret, grace, most = ARGS[1], ARGS[2], tonumber(ARGS[3]), tonumber(ARGS[4])

use(AUTHORISATION_DB)
local kept = call('HGET', PROJECT .. project, 'signing')
if not kept or not project_open(project) then
  return { 'MISSING' }
end
local secrets = cjson.decode(kept)
if secrets[1] and secrets[1].s == secret then
  return { 'OK', secrets[2] and secrets[2].x or now }
end
local rotated = { { s = secret, x = cjson.null } }
for _, former in ipairs(secrets) do
  local expiry = now + grace
  if former.x ~= cjson.null and former.x < expiry then
    expiry = former.x
  end
  if expiry > now then
    rotated[#rotated + 1] = { s = former.s, x = expiry }
  end
end
if #rotated > most then
  return { 'SECRETS_FULL' } -- each signs every request: there is no end to what that costs
end
use(AUTHORISATION_DB)
call('HSET', PROJECT .. project, 'signing', cjson.encode(rotated))
return { 'OK', rotated[2] and rotated[2].x or now }
