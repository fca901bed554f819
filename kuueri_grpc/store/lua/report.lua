#!lua flags=allow-oom
-- report.lua: apply what claimed attempts came to.
-- ARGS: number of reports, then for each report:
--       project, task, token, status ('' no answer), latency (ms), reason ('' success), detail,
--       next state, wait kind ('at'|'in'|''), wait (ms or ''), reason of the end ('')
-- Returns: for each report 1 (applied, now or by an earlier call), 2 (the task has FAILED instead, as its
--       record is damaged) or 0 (the token is stale: nothing changed)
-- Idempotent: the token of the latest applied report is kept (`done`).
local count, STRIDE = tonumber(ARGS[1]), 11

local function set(fields, ...)
  for i = 1, select('#', ...) do
    fields[#fields + 1] = (select(i, ...))
  end
end

-- What the attempt came to, and the fields that every outcome sets.
local function outcome(at, name, t)
  local status, latency, reason, detail = ARGS[at + 3], ARGS[at + 4], ARGS[at + 5], ARGS[at + 6]
  local attempt, rest = tonumber(t[5]), ',"l":' .. latency
  if status ~= '' then
    rest = rest .. ',"s":' .. status
  end
  if detail ~= '' then
    rest = rest .. ',"d":' .. cjson.encode(detail)
  end
  local answer = event(reason == '' and 'SUCCEEDED' or 'ERRORED', attempt, present(reason), nil, rest)
  local fields = { 'HSET', TASK .. name, 'done', ARGS[at + 2], 'token', '', 'holder', '', 'last', attempt,
    'last_at', t[9], 'last_ms', latency }
  -- What may be there of an attempt before.
  if status ~= '' or attempt > 1 then
    set(fields, 'last_status', status)
  end
  if reason ~= '' or attempt > 1 then
    set(fields, 'last_reason', reason)
  end
  if present(t[10]) then
    set(fields, 'lost', '')
  end
  if present(t[8]) then
    set(fields, 'hold', '')
  end
  return answer, fields, attempt
end

-- Wait for the next attempt, or be held instead when Pause came during this one.
local function wait(at, project, id, t, next_state)
  local answer, fields, attempt = outcome(at, project .. '/' .. id, t)
  local due
  if ARGS[at + 8] == 'at' then
    due = math.max(now, tonumber(ARGS[at + 9]))
  else
    due = now + tonumber(ARGS[at + 9])
  end
  local due_text = int(due)
  local following = event(next_state == 'RETRYING' and 'RETRY_SCHEDULED' or 'REPEAT_SCHEDULED',
    attempt, nil, due_text)
  if next_state == 'RETRYING' then
    set(fields, 'retry', tonumber(t[6] or 0) + 1)
  else
    set(fields, 'repeat', tonumber(t[7] or 0) + 1, 'retry', 0)
  end
  if present(t[8]) then
    local sequence = record(project, t[3], id, tonumber(t[4]), answer, following,
      event('PAUSED', nil, 'BY_REQUEST'))
    set(fields, 'state', 'PAUSED', 'origin', next_state, 'left', int(due - now), 'due', '', 'seq', sequence)
  else
    local sequence = record(project, t[3], id, tonumber(t[4]), answer, following)
    set(fields, 'state', next_state, 'due', due_text, 'seq', sequence)
    enqueue(project .. '/' .. t[3], id, due_text)
  end
  return fields
end

local function finish(at, project, id, t, next_state)
  local answer, fields, attempt = outcome(at, project .. '/' .. id, t)
  local ending = event(next_state, attempt, present(ARGS[at + 10]))
  set(fields, 'state', next_state, 'end', NOW, 'due', '',
    'seq', record(project, t[3], id, tonumber(t[4]), answer, ending))
  return fields
end

local applied = {} -- tokens of this call: their writes are not made yet

local function apply(at)
  local project, id, token = ARGS[at], ARGS[at + 1], ARGS[at + 2]
  local name = project .. '/' .. id
  use(EXECUTION_DB)
  local t = fields_of(name, 'token', 'done', 'queue', 'seq', 'attempt', 'retry', 'repeat',
    'hold', 'sent', 'lost')
  if applied[token] or t[1] ~= token then
    return (applied[token] or t[2] == token) and 1 or 0
  end
  applied[token] = true
  write_member(EXECUTION_DB, 'ZREM', LEASES, name)
  if not (t[3] and whole(t[4]) and whole(t[5]) and whole(t[6], 0) and whole(t[7], 0) and whole(t[9])) then
    end_unreadable(project, t[3] or 'default', id, token)
    return 2
  end
  local next_state = ARGS[at + 7]
  local ends = TERMINAL[next_state]
  gather(EXECUTION_DB, (ends and finish or wait)(at, project, id, t, next_state))
  if ends then
    retire(project, name)
  end
  return 1
end

local results = {}
for i = 1, count do
  results[i] = apply(2 + (i - 1) * STRIDE)
end
commit()
return results
