#!lua flags=allow-oom
-- project_end.lua: cancel tasks of a closed project, as Cancel does it, the oldest first.
-- ARGS: project, cursor (a bound of scores of the index, '-inf' to start), about how many to look at
-- Returns: {cursor of the next call or '', revoked}; revoked: {task, token, holder, lease left (ms)} of each
--       attempt whose holder may still be going on
-- Idempotent: a task that has ended stays as it is, and its attempt that was revoked is named again.
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
for _, id in ipairs(ids) do
  use(EXECUTION_DB)
  local t = call('HMGET', TASK .. project .. '/' .. id, unpack(CANCELABLE))
  if t[1] and not TERMINAL[t[1]] then
    cancel(project, id, t, 'BY_REQUEST')
  end
end
commit()

local attempts = {}
for _, id in ipairs(ids) do
  local token, holder, left = revoked(project .. '/' .. id)
  if left > 0 then
    attempts[#attempts + 1] = { id, token, holder, left }
  end
end
return { last and '(' .. last or '', attempts }
