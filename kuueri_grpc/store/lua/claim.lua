#!lua flags=allow-oom
-- claim.lua: give expired leases back, then take due tasks, each leased under a fencing token.
-- ARGV: limit, lease (ms), instance, claim id, losses before POISON, history retention (ms),
--       timeline cap
-- Returns: {now, next due or -1, claims, secrets}
--       claim: {project, task, queue, token, attempt, retry, repeat, run start, due, request, policy}
--       secrets: flat {project, signing secrets JSON, ...} of the projects in the claims
-- Idempotent: an instance's latest claim id is kept; the same id again gives the tasks that are
-- leased under it and takes nothing new.
local limit, lease, instance, claim_id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local max_losses, retention, keep = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local claims = {}
local projects = {}

-- Return what the dispatcher needs of a task that is leased.
local function describe(name, project, id, queue_name, token, attempt, retry, repetition, start, due)
  use(CONFIGURATION_DB)
  local config = call('HMGET', CONFIG .. name, 'request', 'policy')
  projects[project] = true
  claims[#claims + 1] = { project, id, queue_name, token, attempt, retry, repetition, start, due,
    config[1], config[2] }
end

local function replay()
  for _, name in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    use(EXECUTION_DB)
    local t = call('HMGET', TASK .. name, 'token', 'queue', 'attempt', 'retry', 'repeat', 'start', 'due')
    if t[1] and string.sub(t[1], 1, #claim_id + 1) == claim_id .. ':' then
      local project, id = split(name)
      describe(name, project, id, t[2], t[1], tonumber(t[3]), tonumber(t[4] or 0),
        tonumber(t[5] or 0), tonumber(t[6]), tonumber(t[7]))
    end
  end
end

-- The holder of this lease died or hung: the same attempt runs again, no retry is used up.
local function recover(name)
  local project, id = split(name)
  use(EXECUTION_DB)
  call('ZREM', LEASES, name)
  local t = call('HMGET', TASK .. name, 'state', 'queue', 'seq', 'attempt', 'origin', 'lost', 'hold')
  if t[1] ~= 'DISPATCHING' then
    return
  end
  local sequence, attempt = tonumber(t[3]), tonumber(t[4])
  local lost = tonumber(t[6] or 0) + 1
  if lost >= max_losses then
    sequence = record(name, sequence, { e = 'FAILED', a = attempt, r = 'POISON' }, keep)
    use(EXECUTION_DB)
    call('HDEL', TASK .. name, 'token', 'holder', 'due', 'hold', 'redo')
    call('HSET', TASK .. name, 'state', 'FAILED', 'seq', sequence, 'end', int(now), 'lost', lost)
    retire(project, name, retention)
    return
  end
  sequence = record(name, sequence, { e = 'RECOVERED', a = attempt, r = 'LEASE_LOST', x = now }, keep)
  local state = t[5]
  if t[7] then
    sequence = record(name, sequence, { e = 'PAUSED', r = 'BY_REQUEST' }, keep)
    state = 'PAUSED'
  end
  use(EXECUTION_DB)
  call('HDEL', TASK .. name, 'token', 'holder', 'hold')
  call('HSET', TASK .. name, 'state', state, 'seq', sequence, 'lost', lost, 'redo', 1)
  if state == 'PAUSED' then
    call('HDEL', TASK .. name, 'due')
    call('HSET', TASK .. name, 'left', 0)
  else
    call('HSET', TASK .. name, 'due', int(now))
    enqueue(project .. '/' .. t[2], id, now)
  end
end

local function expire(name, project, sequence)
  sequence = record(name, sequence, { e = 'EXPIRED', r = 'START_DEADLINE' }, keep)
  use(EXECUTION_DB)
  call('HDEL', TASK .. name, 'due')
  call('HSET', TASK .. name, 'state', 'EXPIRED', 'seq', sequence, 'end', int(now))
  retire(project, name, retention)
end

local function take(queue, id)
  local project, queue_name = split(queue)
  local name = project .. '/' .. id
  use(EXECUTION_DB)
  call('ZREM', QUEUE .. queue, id)
  local t = call('HMGET', TASK .. name, 'state', 'due', 'seq', 'attempt', 'retry', 'repeat', 'start',
    'redo', 'deadline', 'early')
  local state = t[1]
  if not WAITING[state] then
    return
  end
  local due, sequence = tonumber(t[2]), tonumber(t[3])
  local attempt, retry, repetition = tonumber(t[4] or 0), tonumber(t[5] or 0), tonumber(t[6] or 0)
  if t[9] and attempt == 0 and now > due + tonumber(t[9]) then
    return expire(name, project, sequence)
  end
  local start = tonumber(t[7] or now)
  if not t[8] then
    attempt = attempt + 1
    if retry == 0 then
      start = now -- the first attempt of a run
    end
  end
  local token = claim_id .. ':' .. attempt .. ':' .. (#claims + 1)
  sequence = record(name, sequence, { e = 'DISPATCHED', a = attempt, r = t[10] and 'RUN_NOW' or nil }, keep)
  use(EXECUTION_DB)
  call('HSET', TASK .. name, 'state', 'DISPATCHING', 'origin', state, 'seq', sequence,
    'attempt', attempt, 'start', int(start), 'token', token, 'holder', instance, 'sent', int(now))
  if t[8] or t[10] then
    call('HDEL', TASK .. name, 'redo', 'early')
  end
  call('ZADD', LEASES, int(now + lease), name)
  describe(name, project, id, queue_name, token, attempt, retry, repetition, start, due)
end

use(EXECUTION_DB)
local latest = CLAIM .. instance
if call('GET', latest) == claim_id then
  replay()
else
  call('SET', latest, claim_id, 'PX', 60000)
  for _, name in ipairs(call('ZRANGE', LEASES, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, 100)) do
    recover(name)
  end
  settle()
  use(EXECUTION_DB)
  local ready = call('ZRANGE', DUE, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, limit)
  local share = math.max(1, math.floor(limit / math.max(1, #ready)))
  for _, queue in ipairs(ready) do
    use(EXECUTION_DB)
    local ids = call('ZRANGE', QUEUE .. queue, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, share)
    for _, id in ipairs(ids) do
      take(queue, id)
    end
    yield_turn(queue)
  end
  settle()
end

use(EXECUTION_DB)
local next_due = head(DUE)
local next_lease = head(LEASES)
if next_lease and (not next_due or next_lease < next_due) then
  next_due = next_lease
end

use(AUTHORISATION_DB)
local secrets = {}
for project in pairs(projects) do
  secrets[#secrets + 1] = project
  secrets[#secrets + 1] = call('HGET', PROJECT .. project, 'signing') or '[]'
end
return { now, next_due or -1, claims, secrets }
