-- lib_cancel.lua: how a task is canceled. Put behind the prelude of the scripts that do it, see scripts.py.

-- What `cancel` has to know of a task: the fields to read.
local CANCELABLE = { 'state', 'queue', 'seq', 'token', 'holder', 'lane', 'lost', 'create', 'due', 'deadline' }

-- End a live task as CANCELED, and note what its holder may still be doing, and until when it can. `t`: its
-- CANCELABLE fields.
local function cancel(project, id, t, reason)
  local name = project .. '/' .. id
  if t[1] == 'DISPATCHING' then
    local expiry = tonumber(call('ZSCORE', LEASES, name) or now)
    write_member(EXECUTION_DB, 'ZREM', LEASES, name)
    write(EXECUTION_DB, 'HSET', TASK .. name, 'revoked', t[4], 'revoked_by', t[5], 'revoked_until', int(expiry))
  else
    dequeue_anywhere(project .. '/' .. t[2], t[6], t[7], id)
    await_start_no_more(name, t[10])
  end
  local sequence = unfold(name, t[3], t[8], t[9])
  sequence = record(project, t[2], id, sequence, event('CANCELED', nil, reason))
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'CANCELED', 'end', NOW, 'seq', sequence, 'due', '',
    'token', '', 'holder', '', 'hold', '', 'left', '', 'redo', '', 'early', '')
  retire(project, name)
end

-- The attempt that Cancel took away: its token and holder ('' if there was none), and for how many ms the
-- holder may still go on.
local function revoked(name)
  use(EXECUTION_DB)
  local r = call('HMGET', TASK .. name, 'revoked', 'revoked_by', 'revoked_until')
  return r[1] or '', r[2] or '', math.max(0, tonumber(r[3] or 0) - now)
end
