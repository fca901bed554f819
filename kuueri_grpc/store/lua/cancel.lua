#!lua flags=allow-oom
-- cancel.lua: end a task as CANCELED and take the attempt in flight from its holder.
-- ARGS: project, task
-- Returns: {'OK', snapshot, token or '', holder or '', lease left (ms)} | {'MISSING'} | {'ENDED', state}
-- Idempotent: a canceled task answers as it did the first time, with the attempt that was revoked.
local project, id = ARGS[1], ARGS[2]
local name = project .. '/' .. id

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'state', 'queue', 'seq', 'token', 'holder')
local state = t[1]
if not state then
  return { 'MISSING' }
end
if TERMINAL[state] and state ~= 'CANCELED' then
  return { 'ENDED', state }
end

if state ~= 'CANCELED' then
  if state == 'DISPATCHING' then
    -- What the holder may still be doing, and until when it can: Cancel waits for one or the other.
    local expiry = tonumber(call('ZSCORE', LEASES, name) or now)
    write_member(EXECUTION_DB, 'ZREM', LEASES, name)
    write(EXECUTION_DB, 'HSET', TASK .. name, 'revoked', t[4], 'revoked_by', t[5], 'revoked_until', int(expiry))
  else
    dequeue(project .. '/' .. t[2], id)
  end
  local sequence = record(project, t[2], id, tonumber(t[3]), { e = 'CANCELED', r = 'BY_REQUEST' })
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'CANCELED', 'end', int(now), 'seq', sequence, 'due', '',
    'token', '', 'holder', '', 'hold', '', 'left', '', 'redo', '', 'early', '')
  retire(project, name)
  commit()
end

use(EXECUTION_DB)
local r = call('HMGET', TASK .. name, 'revoked', 'revoked_by', 'revoked_until')
local left = math.max(0, tonumber(r[3] or 0) - now)
return { 'OK', snapshot(name), r[1] or '', r[2] or '', left }
