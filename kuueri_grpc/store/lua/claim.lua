#!lua flags=allow-oom
-- claim.lua: give expired leases back, then take due tasks, each leased under a fencing token.
-- ARGS: limit, lease (ms), instance, claim id, losses before POISON, until when the caller waits (ms or ''),
--       then the lanes that the caller has no room for
-- Returns: {now, next due or -1, claims, secrets, recovered, poisoned, expired, 1 if lanes were left, else 0}
--       claim: {project, task, queue, token, attempt, retry, repeat, run start, due, create, lane or '',
--                request, policy}
--       next due: of what is not in those lanes
--       secrets: flat {project, signing secrets JSON, ...} of the projects in the claims
--       recovered, poisoned: {project/task, ...} whose leases had run out; expired: how many
-- Idempotent: an instance's latest claim id is kept; the same id again gives the tasks that are
-- leased under it and takes nothing new. A call that is carried out after its caller has given up (the
-- server was frozen, and finds it in a socket) changes nothing.
local limit, lease, instance, claim_id = tonumber(ARGS[1]), tonumber(ARGS[2]), ARGS[3], ARGS[4]
local max_losses, waits_until = tonumber(ARGS[5]), tonumber(ARGS[6])
local full = {}
for i = 7, #ARGS do
  full[ARGS[i]] = true
end

local PAGE = 100 -- queues, or tasks, that are looked at in one go
local MOST_MOVED = 500 -- tasks of a queue that go to a lane in one call
local left_lanes = 0

local claims = {}
local recovered, poisoned, expired = {}, {}, 0

local function replay()
  for _, name in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    local t = call('HMGET', TASK .. name, 'token', 'queue', 'attempt', 'retry', 'repeat', 'start', 'due',
      'create', 'lane')
    if t[1] and string.sub(t[1], 1, #claim_id + 1) == claim_id .. ':' then
      local project, id = split(name)
      claims[#claims + 1] = { project, id, t[2], t[1], tonumber(t[3]), tonumber(t[4] or 0),
        tonumber(t[5] or 0), tonumber(t[6]), tonumber(t[7]), tonumber(t[8]), t[9] or '' }
    end
  end
  -- In the order of the first answer, which the tokens number.
  table.sort(claims, function(a, b)
    return tonumber(string.match(a[4], '%d+$')) < tonumber(string.match(b[4], '%d+$'))
  end)
end

-- The holder of this lease died or hung.
local function recover(name)
  local project, id = split(name)
  write_member(EXECUTION_DB, 'ZREM', LEASES, name)
  use(EXECUTION_DB) -- parking the one before may have looked elsewhere
  local t = call('HMGET', TASK .. name, unpack(LEASED))
  if t[1] ~= 'DISPATCHING' then
    return
  end
  local lost = tonumber(present(t[8]) or 0) + 1
  if lost < max_losses then
    recovered[#recovered + 1] = name
    return give_back(project, id, t, 'LEASE_LOST', lost)
  end
  poisoned[#poisoned + 1] = name
  local sequence = record(project, t[2], id, tonumber(t[3]), { e = 'FAILED', a = tonumber(t[4]), r = 'POISON' })
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'FAILED', 'seq', sequence, 'end', int(now),
    'lost', lost, 'token', '', 'holder', '', 'due', '', 'hold', '', 'redo', '')
  retire(project, name)
end

local function expire(name, project, queue_name, id, sequence)
  expired = expired + 1
  sequence = record(project, queue_name, id, sequence, { e = 'EXPIRED', r = 'START_DEADLINE' })
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'EXPIRED', 'seq', sequence, 'end', int(now), 'due', '')
  retire(project, name)
end

-- `lane`: the one that the task is in; nil where it is in the queue itself.
local function take(queue, project, queue_name, lane, id)
  local name = project .. '/' .. id
  dequeue(queue, id)
  local t = call('HMGET', TASK .. name, 'state', 'due', 'seq', 'attempt', 'retry', 'repeat', 'start',
    'redo', 'deadline', 'early', 'lane', 'create')
  local state = t[1]
  if not WAITING[state] then
    return
  end
  if not lane and full[t[11]] then
    left_lanes = 1
    return enqueue(lane_in(queue, t[11]), id, tonumber(t[2]))
  end
  local due, sequence = tonumber(t[2]), tonumber(t[3])
  local attempt, retry, repetition = tonumber(t[4] or 0), tonumber(t[5] or 0), tonumber(t[6] or 0)
  local redo, early = present(t[8]), present(t[10])
  if t[9] and attempt == 0 and now > due + tonumber(t[9]) then
    return expire(name, project, queue_name, id, sequence)
  end
  local start = tonumber(t[7] or now)
  if not redo then
    attempt = attempt + 1
    if retry == 0 then
      start = now -- the first attempt of a run
    end
  end
  local token = claim_id .. ':' .. attempt .. ':' .. (#claims + 1)
  sequence = record(project, queue_name, id, sequence, { e = 'DISPATCHED', a = attempt, r = early and 'RUN_NOW' or nil })
  local command = { 'HSET', TASK .. name, 'state', 'DISPATCHING', 'origin', state, 'seq', sequence,
    'attempt', attempt, 'start', int(start), 'token', token, 'holder', instance, 'sent', int(now) }
  if redo or early then
    command[#command + 1] = 'redo'
    command[#command + 1] = ''
    command[#command + 1] = 'early'
    command[#command + 1] = ''
  end
  write(EXECUTION_DB, unpack(command))
  write_member(EXECUTION_DB, 'ZADD', LEASES, int(now + lease), name)
  claims[#claims + 1] = { project, id, queue_name, token, attempt, retry, repetition, start, due,
    tonumber(t[12]), t[11] or '' }
end

-- The queues and lanes that are ready, in the order of their turns, `limit` at the most.
local function ready_queues()
  local ready, from = {}, 0
  repeat
    local page = call('ZRANGE', DUE, '-inf', int(now), 'BYSCORE', 'LIMIT', from, PAGE)
    for _, queue in ipairs(page) do
      local _, lane = split_lane(queue)
      if full[lane] then
        left_lanes = 1
      elseif #ready < limit then
        ready[#ready + 1] = queue
      end
    end
    from = from + PAGE
  until #ready == limit or #page < PAGE
  return ready
end

-- Take `share` tasks of a queue, or of a lane; what goes to a lane does not count.
local function take_share(queue, share)
  local place, lane = split_lane(queue)
  local project, queue_name = split(place)
  local wanted, seen = #claims + share, 0
  repeat
    local count = share + (next(full) and PAGE or 0)
    local ids = call('ZRANGE', QUEUE .. queue, '-inf', int(now), 'BYSCORE', 'LIMIT', seen, count)
    for _, id in ipairs(ids) do
      if #claims == wanted then
        return
      end
      seen = seen + 1
      take(queue, project, queue_name, lane, id)
      use(EXECUTION_DB)
    end
  until #claims == wanted or #ids < count or not next(full) or seen >= MOST_MOVED
end

-- When the first queue has its turn that the caller has room for; nil: there is none.
local function next_turn()
  local from = 0
  repeat
    local page = call('ZRANGE', DUE, from, from + PAGE - 1, 'WITHSCORES')
    for i = 1, #page, 2 do
      local _, lane = split_lane(page[i])
      if not full[lane] then
        return tonumber(page[i + 1])
      end
    end
    from = from + PAGE
  until #page < 2 * PAGE
end

use(EXECUTION_DB)
local latest = CLAIM .. instance
local given_up = waits_until and now > waits_until
if not given_up and call('GET', latest) == claim_id then
  replay()
elseif not given_up then
  for _, name in ipairs(call('ZRANGE', LEASES, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, 100)) do
    recover(name)
  end
  write(EXECUTION_DB, 'SET', latest, claim_id, 'PX', 60000)
  commit() -- what was given back can be taken below
  use(EXECUTION_DB)
  local first_lease = call('EXISTS', LEASES) == 0
  local ready = ready_queues()
  local share = math.max(1, math.floor(limit / math.max(1, #ready)))
  for _, queue in ipairs(ready) do
    take_share(queue, share)
    yield_turn(queue)
  end
  commit()
  if first_lease and #claims > 0 then
    -- Nobody else has a reason to look here: they would learn of this lease from nobody if its holder died.
    call('PUBLISH', WAKE, int(now + lease))
  end
end

use(EXECUTION_DB)
local next_due, next_lease = next_turn(), head(LEASES)
if next_lease and (not next_due or next_lease < next_due) then
  next_due = next_lease
end

-- What the dispatcher needs besides.
use(CONFIGURATION_DB)
local projects = {}
for _, claim in ipairs(claims) do
  local config = call('HMGET', CONFIG .. claim[1] .. '/' .. claim[2], 'request', 'policy')
  claim[12], claim[13] = config[1], config[2]
  projects[claim[1]] = true
end
local secrets = {}
for project in pairs(projects) do
  use(AUTHORISATION_DB)
  secrets[#secrets + 1] = project
  secrets[#secrets + 1] = call('HGET', PROJECT .. project, 'signing') or '[]'
end
return { now, next_due or -1, claims, secrets, recovered, poisoned, expired, left_lanes }
