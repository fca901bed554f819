#!lua flags=allow-oom
-- report.lua: apply what claimed attempts came to.
-- ARGV: history retention (ms), timeline cap, number of reports, then for each report:
--       project, task, token, status ('' no answer), latency (ms), reason ('' success), detail,
--       next state, wait kind ('at'|'in'|''), wait (ms or ''), reason of the end ('')
-- Returns: for each report 1 (applied, now or by an earlier call) or 0 (the token is stale: nothing
--       changed)
-- Idempotent: the token of the latest applied report is kept (`done`).
local retention, keep, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local STRIDE = 11

-- Wait for the next attempt, or be held instead when Pause came during this one.
local function wait(name, project, id, t, next_state, at, sequence)
  local due
  if ARGV[at + 8] == 'at' then
    due = math.max(now, tonumber(ARGV[at + 9]))
  else
    due = now + tonumber(ARGV[at + 9])
  end
  local counter
  if next_state == 'RETRYING' then
    local retry = tonumber(t[6] or 0) + 1
    counter = { 'retry', retry }
    sequence = record(name, sequence, { e = 'RETRY_SCHEDULED', a = tonumber(t[5]), x = due }, keep)
  else
    local repetition = tonumber(t[7] or 0) + 1
    counter = { 'repeat', repetition, 'retry', 0 }
    sequence = record(name, sequence, { e = 'REPEAT_SCHEDULED', a = tonumber(t[5]), x = due }, keep)
  end
  if t[8] then
    sequence = record(name, sequence, { e = 'PAUSED', r = 'BY_REQUEST' }, keep)
    use(EXECUTION_DB)
    call('HDEL', TASK .. name, 'due', 'hold')
    call('HSET', TASK .. name, 'state', 'PAUSED', 'origin', next_state, 'left', int(due - now),
      'seq', sequence, unpack(counter))
  else
    use(EXECUTION_DB)
    call('HSET', TASK .. name, 'state', next_state, 'due', int(due), 'seq', sequence, unpack(counter))
    enqueue(project .. '/' .. t[3], id, due)
  end
end

local function finish(name, project, next_state, at, attempt, sequence)
  local why = ARGV[at + 10]
  sequence = record(name, sequence, { e = next_state, a = attempt, r = why ~= '' and why or nil }, keep)
  use(EXECUTION_DB)
  call('HDEL', TASK .. name, 'due', 'hold')
  call('HSET', TASK .. name, 'state', next_state, 'end', int(now), 'seq', sequence)
  retire(project, name, retention)
end

local function apply(at)
  local project, id, token = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local name = project .. '/' .. id
  use(EXECUTION_DB)
  local t = call('HMGET', TASK .. name, 'token', 'done', 'queue', 'seq', 'attempt', 'retry', 'repeat',
    'hold', 'sent')
  if t[1] ~= token then
    return t[2] == token and 1 or 0
  end
  local status, latency = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local reason, detail, next_state = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local attempt = tonumber(t[5])

  call('ZREM', LEASES, name)
  call('HDEL', TASK .. name, 'token', 'holder', 'lost')
  call('HSET', TASK .. name, 'done', token, 'last', attempt, 'last_at', t[9], 'last_ms', int(latency),
    'last_status', status or '', 'last_reason', reason)
  local sequence = record(name, tonumber(t[4]), {
    e = reason == '' and 'SUCCEEDED' or 'ERRORED', a = attempt, s = status, l = latency,
    r = reason ~= '' and reason or nil, d = detail ~= '' and detail or nil,
  }, keep)

  if TERMINAL[next_state] then
    finish(name, project, next_state, at, attempt, sequence)
  else
    wait(name, project, id, t, next_state, at, sequence)
  end
  return 1
end

local results = {}
for i = 1, count do
  results[i] = apply(4 + (i - 1) * STRIDE)
end
settle()
return results
