#!lua flags=allow-oom
-- project_end.lua: cancel the tasks in flight of a closed project, as Cancel does it, and remove its other tasks
-- with all that is kept of them; the oldest first.
-- ARGS: project, cursor (a bound of scores of the index, '-inf' to start), about how many to look at
-- Returns: {cursor of the next call or '', revoked, how many were removed, how many are left}; revoked: {task, token,
--       holder, lease left (ms)} of each attempt whose holder may still be going on. These tasks stay until project_erase.lua.
-- Idempotent: an attempt that was revoked is named again, as long as its lease lasts; what is gone is gone.
local project, cursor, look_at = ARGS[1], ARGS[2], tonumber(ARGS[3])

use(EXECUTION_DB)
local index = INDEX .. project
local entries = call('ZRANGE', index, cursor, '+inf', 'BYSCORE', 'LIMIT', 0, look_at, 'WITHSCORES')
local last = #entries == 2 * look_at and entries[#entries]
local ids = {}
for i = 1, #entries, 2 do
  if entries[i + 1] ~= last then
    ids[#ids + 1] = entries[i]
  end
end
if last then
  -- All with the last score, so that the next call can go on behind it.
  for _, id in ipairs(call('ZRANGE', index, last, last, 'BYSCORE')) do
    ids[#ids + 1] = id
  end
end

local stay = {} -- ids
local function finish(id)
  use(EXECUTION_DB)
  local name = project .. '/' .. id
  local t = fields_of(name, unpack(CANCELABLE))
  local state = t[1]
  if state == 'DISPATCHING' then
    if not (t[2] and whole(t[3])) then
      t[2], t[3] = t[2] or 'default', '1' -- damaged, and soon gone: what its timeline says is of no matter
    end
    cancel(project, id, t, 'BY_REQUEST')
    stay[#stay + 1] = id
    return
  end
  if state == 'CANCELED' then
    local _, _, left = revoked(name)
    if left > 0 then
      stay[#stay + 1] = id
      return
    end
  end
  if t[2] and not TERMINAL[state] then
    dequeue_anywhere(project .. '/' .. t[2], t[6], t[7], id)
    count_live(project, -1)
  end
  erase(project, id)
end

for _, id in ipairs(ids) do
  finish(id)
end
commit()

use(EXECUTION_DB)
local attempts = {}
for _, id in ipairs(stay) do
  local token, holder, left = revoked(project .. '/' .. id)
  if left > 0 then
    attempts[#attempts + 1] = { id, token, holder, left }
  end
end
return { last and '(' .. last or '', attempts, #ids - #stay, call('ZCARD', index) }
