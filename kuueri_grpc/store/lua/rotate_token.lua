#!lua flags=allow-oom
-- rotate_token.lua: add a full credential; the other full ones end after a grace time.
-- ARGS: project, key id of the caller, key id, credential (JSON), grace (ms), request ('' not to be repeated),
--       how long the caller may repeat the call (ms), most credentials of a project, channel for changes of
--       credentials
-- Returns: {'OK', when the others end} | {'MISSING'} | {'ENDED'} (the caller's credential) | {'FULL'} | {'TAKEN'} (the
--          key id, by another credential)
-- Idempotent: a credential that is there already changes nothing. The same request again, with another
-- credential, puts that in the place of the one that it added before.
local project, caller, key_id, added = ARGS[1], ARGS[2], ARGS[3], cjson.decode(ARGS[4])
local grace, request, remember = tonumber(ARGS[5]), ARGS[6], tonumber(ARGS[7])
local most, channel = tonumber(ARGS[8]), ARGS[9]
local credentials = CREDENTIALS .. project

if not project_open(project) then
  return { 'MISSING' }
end
drop_expired_credentials(project)
local kept = credentials_of(project)

local function put(id, record)
  call('HSET', credentials, id, cjson.encode(record))
end

if kept[key_id] then
  if kept[key_id].h ~= added.h then
    return { 'TAKEN' }
  end
  return { 'OK', kept[key_id].o }
end
local mine = kept[caller]
if mine and request ~= '' and mine.r == request and kept[mine.m] then
  -- Nobody got the credential that was added before: its answer was lost.
  added.c, added.o = now, kept[mine.m].o
  call('HDEL', credentials, mine.m)
  mine.m = key_id
  put(caller, mine)
  put(key_id, added)
  call('PUBLISH', channel, project)
  return { 'OK', added.o }
end
if not mine or expired(mine) then
  return { 'ENDED' }
end

local last = now + grace
local count = 1
local ending = {}
for id, record in pairs(kept) do
  count = count + 1
  if is_full(record) then
    -- An earlier rotation is not to be repeated any more: this one came after it.
    record.r, record.m, record.k = nil, nil, nil
    -- Without a grace time it has ended by every clock, that of a server which is a little behind as well.
    record.x = grace > 0 and math.min(record.x or math.huge, last) or 0
    if id == caller and request ~= '' then
      record.r, record.m, record.k = request, key_id, math.max(last, now + remember)
    end
    ending[id] = record
    if gone(record) then
      count = count - 1
    end
  end
end
if count > most then
  return { 'FULL' }
end
for id, record in pairs(ending) do
  if gone(record) then
    call('HDEL', credentials, id)
  else
    put(id, record)
  end
end
added.c, added.o = now, last
put(key_id, added)
call('PUBLISH', channel, project)
return { 'OK', last }
