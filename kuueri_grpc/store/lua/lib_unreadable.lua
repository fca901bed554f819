-- lib_unreadable.lua: what becomes of a task whose record a script cannot go on with. Put behind the prelude
-- of the scripts that work on many tasks, none of which may be kept waiting for one; see scripts.py.

-- The whole number that a field holds, `default` where it holds nothing; nil: something else is in it.
local function whole(value, default)
  local number = tonumber(present(value) or default)
  return number and number >= 0 and number < 1e15 and number or nil
end

-- Fields of a task; what the store says instead (it is no hash) reads as no field at all, and as `broken`.
local function fields_of(name, ...)
  local t = redis.pcall('HMGET', TASK .. name, ...)
  return t.err and { broken = true } or t
end

-- Whether a state is none that a task can be in. A task without state and number of events is gone instead.
local function is_unknown(state, sequence)
  if not state then
    return sequence
  end
  return not (WAITING[state] or TERMINAL[state] or state == 'DISPATCHING' or state == 'PAUSED')
end

-- Whether a task cannot be given back. `t`: its LEASED fields.
local function is_damaged(t)
  if t[1] ~= 'DISPATCHING' then
    return t.broken or is_unknown(t[1], t[3])
  end
  return not (t[2] and whole(t[3]) and whole(t[4]) and WAITING[t[5]])
end

-- End a task as FAILED, with a record that can be read. `token`: of the report that met
-- it, or nil; `claimed`: it was due, and not in flight.
local function end_unreadable(project, queue_name, id, token, claimed)
  local name = project .. '/' .. id
  use(TIMELINE_DB)
  local last = redis.pcall('LINDEX', TIMELINE .. name, -1)
  if type(last) == 'table' then
    write(TIMELINE_DB, 'DEL', TIMELINE .. name)
  end
  local decoded, latest = pcall(cjson.decode, last)
  latest = decoded and type(latest) == 'table' and latest or {}
  use(EXECUTION_DB)
  local t = fields_of(name, 'seq', 'create', 'attempt', 'retry', 'repeat', 'redo', 'due')
  if t.broken then
    write(EXECUTION_DB, 'DEL', TASK .. name)
  end
  local attempt = whole(t[3], 0) or whole(latest.a, 0) or 0
  if claimed and not present(t[6]) then
    attempt = attempt + 1
  end
  local events = { event('ERRORED', attempt, 'UNREADABLE', nil, ',"l":0,"d":"its record is damaged"'),
    event('FAILED', attempt, 'UNREADABLE') }
  if claimed then
    table.insert(events, 1, event('DISPATCHED', attempt))
  end
  -- The timeline knows the number of its last event better than the record.
  local sequence = whole(latest.n) or whole(t[1]) or 0
  if not last then
    sequence = unfold(name, sequence, t[2], t[7])
  end
  sequence = record(project, queue_name, id, sequence, unpack(events))
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'FAILED', 'queue', queue_name, 'seq', sequence,
    'create', int(whole(t[2]) or now), 'attempt', attempt, 'retry', int(whole(t[4], 0) or 0),
    'repeat', int(whole(t[5], 0) or 0), 'end', NOW, 'due', '', 'hold', '', 'redo', '', 'early', '',
    'lost', '', 'left', '', 'token', '', 'holder', '', 'done', token or '', 'last', attempt,
    'last_at', NOW, 'last_ms', 0, 'last_status', '', 'last_reason', 'UNREADABLE')
  await_start_no_more(name, 'unknown')
  retire(project, name)
end
