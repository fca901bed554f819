#!lua
-- subscribe.lua: accept tasks of one project.
-- ARGS: project, operation, queue limit, request_id ttl (ms), number of tasks, then for each:
--       id, queue, due kind ('at'|'in'), due (ms), start deadline (ms or ''), request, policy,
--       labels (JSON or ''), name of the request_id (or ''), fingerprints (the first is kept; a request_id may
--       have been kept with any), lane
-- Returns: for each task {status, ...}:
--       {'OK', create, due} | {'SAME', task id, snapshot} | {'EXISTS'} | {'REUSED', task id} |
--       {'PURGED', task id} where the request_id made a task that is gone |
--       {'COMPARE', task id, snapshot}: SAME if its content is that of the call, else REUSED; see lib_request.lua |
--       {'TWIN', place of the item of this call with the same request_id} | {'QUOTA', limit} | {'NO_PROJECT'}
-- Idempotent: `operation` is kept in each task made (`op`); the same operation again answers SAME. It is
-- one call's own: a task_id that comes twice, in one call or in two, is refused the second time.
local project, operation = ARGS[1], ARGS[2]
local limit, request_ttl, count = tonumber(ARGS[3]), ARGS[4], tonumber(ARGS[5])
local STRIDE = 11

use(AUTHORISATION_DB)
local facts = call('HMGET', PROJECT .. project, 'id', 'taskInQueue', 'taskInQueueLimit', 'closed', 'events')
local open = not facts[4] -- one that is being deleted takes no task
local in_queue = counter(facts[2])
limit = tonumber(facts[3] or limit)
known_projects[project] = false
if facts[1] and open then
  know_project(project, facts[5], facts[2])
end
timed[project] = true

local accepted = {} -- ids of this call: their writes are not made yet
local requests = {} -- request_id -> {fingerprints, task id, place in this call}

local function earlier_request(request_id, fingerprints)
  local twin = requests[request_id]
  if twin then
    return twin[1] == fingerprints and { 'TWIN', twin[3] } or { 'REUSED', twin[2] }
  end
  use(EXECUTION_DB)
  return answer_request(project, call('GET', REQUEST .. project .. '/' .. request_id), fingerprints)
end

local function taken(id, name)
  if accepted[id] then
    return { 'EXISTS' }
  end
  use(EXECUTION_DB)
  local made_by = call('HGET', TASK .. name, 'op')
  if not made_by then
    return nil
  end
  accepted[id] = true
  return made_by == operation and { 'SAME', id, snapshot(name) } or { 'EXISTS' }
end

local function accept(i, at)
  local id, queue_name = ARGS[at], ARGS[at + 1]
  local request_id, fingerprints = ARGS[at + 8], ARGS[at + 9]
  if not facts[1] then
    return { 'NO_PROJECT' }
  end
  local name = project .. '/' .. id
  local earlier = request_id ~= '' and earlier_request(request_id, fingerprints) or taken(id, name)
  if earlier then
    return earlier
  end
  if not open then
    return { 'NO_PROJECT' }
  end
  if in_queue >= limit then
    return { 'QUOTA', limit }
  end

  local due = tonumber(ARGS[at + 3])
  if ARGS[at + 2] == 'in' then
    due = now + due
  end
  local due_text = int(due)
  -- Not on its timeline yet, see `unfold`; and nobody can follow it yet, so none but its project's watchers are told.
  tell(project, queue_name .. '/' .. id, due_text)
  local task = { 'HSET', TASK .. name, 'state', 'SCHEDULED', 'queue', queue_name, 'create', NOW, 'due', due_text,
    'seq', '0', 'op', operation, 'lane', ARGS[at + 10] }
  if ARGS[at + 4] ~= '' then
    task[17], task[18] = 'deadline', ARGS[at + 4]
    await_start(name, due, ARGS[at + 4])
  end
  gather(EXECUTION_DB, task)
  -- Microseconds, plus the place in the call: tasks of one call keep their order.
  write_member(EXECUTION_DB, 'ZADD', INDEX .. project, int(now_us + i), id)
  local config = { 'HSET', CONFIG .. name, 'request', ARGS[at + 5], 'policy', ARGS[at + 6] }
  if ARGS[at + 7] ~= '' then
    config[7], config[8] = 'labels', ARGS[at + 7]
  end
  gather(CONFIGURATION_DB, config)
  enqueue(project .. '/' .. queue_name, id, due_text)
  count_live(project, 1)
  in_queue = in_queue + 1
  accepted[id] = true
  if request_id ~= '' then
    requests[request_id] = { fingerprints, id, i }
    local made = id .. ' ' .. string.match(fingerprints, '%S+') .. ' ' .. operation
    remember(project, request_id, made, request_ttl)
  end
  return { 'OK', now, due }
end

local results = {}
for i = 1, count do
  results[i] = accept(i, 6 + (i - 1) * STRIDE)
end
commit()
return results
