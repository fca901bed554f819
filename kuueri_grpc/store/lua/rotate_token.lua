#!lua flags=allow-oom
-- rotate_token.lua: add a credential; all others end after a grace time.
-- ARGS: project, key id, credential (JSON), grace (ms)
-- Returns: {'OK'} | {'MISSING'}
-- Idempotent: a credential that is there already changes nothing.
local project, key_id, grace = ARGS[1], ARGS[2], tonumber(ARGS[4])
local credentials = CREDENTIALS .. project

use(AUTHORISATION_DB)
if call('EXISTS', PROJECT .. project) == 0 then
  return { 'MISSING' }
end
if call('HEXISTS', credentials, key_id) == 1 then
  return { 'OK' }
end
local kept = call('HGETALL', credentials)
for i = 1, #kept, 2 do
  local record = cjson.decode(kept[i + 1])
  local expiry = math.min(record.x or math.huge, now + grace)
  if expiry <= now then
    call('HDEL', credentials, kept[i])
  else
    record.x = expiry
    call('HSET', credentials, kept[i], cjson.encode(record))
  end
end
call('HSET', credentials, key_id, ARGS[3])
return { 'OK' }
