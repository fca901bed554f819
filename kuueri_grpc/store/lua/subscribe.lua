#!lua
-- subscribe.lua: accept tasks of one project.
-- ARGV: project, operation, queue limit, request_id ttl (ms), number of tasks, then for each task:
--       id, queue, due kind ('at'|'in'), due (ms), start deadline (ms or ''), request, policy,
--       labels (JSON or ''), request_id (or ''), fingerprint
-- Returns: for each task {status, ...}:
--       {'OK', create, due} | {'SAME', task id, snapshot} | {'EXISTS'} | {'REUSED', task id} | {'QUOTA', limit} |
--       {'NO_PROJECT'}
-- Idempotent: `operation` is kept in each task made (`op`); the same operation again answers SAME.
local project, operation = ARGV[1], ARGV[2]
local limit, request_ttl, count = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local STRIDE = 10

use(AUTHORISATION_DB)
local facts = call('HMGET', PROJECT .. project, 'id', 'taskInQueue', 'taskInQueueLimit')
local exists = facts[1]
local live = tonumber(facts[2] or 0)
limit = tonumber(facts[3] or limit)

local function earlier_request(request_id, fingerprint)
  if request_id == '' then
    return nil
  end
  use(EXECUTION_DB)
  local made = call('GET', REQUEST .. project .. '/' .. request_id)
  if not made then
    return nil
  end
  local separator = string.find(made, ' ', 1, true)
  local task_id = string.sub(made, 1, separator - 1)
  if string.sub(made, separator + 1) ~= fingerprint then
    return { 'REUSED', task_id }
  end
  if call('EXISTS', TASK .. project .. '/' .. task_id) == 0 then
    return nil -- purged, or its history has expired: the call makes it anew
  end
  return { 'SAME', task_id, snapshot(project .. '/' .. task_id) }
end

local function accept(i, at)
  local id, queue_name = ARGV[at], ARGV[at + 1]
  local request_id, fingerprint = ARGV[at + 8], ARGV[at + 9]
  if not exists then
    return { 'NO_PROJECT' }
  end
  local earlier = earlier_request(request_id, fingerprint)
  if earlier then
    return earlier
  end
  local name = project .. '/' .. id
  use(EXECUTION_DB)
  if call('EXISTS', TASK .. name) == 1 then
    if call('HGET', TASK .. name, 'op') == operation then
      return { 'SAME', id, snapshot(name) }
    end
    return { 'EXISTS' }
  end
  if live >= limit then
    return { 'QUOTA', limit }
  end

  local due = tonumber(ARGV[at + 3])
  if ARGV[at + 2] == 'in' then
    due = now + due
  end
  local queue = project .. '/' .. queue_name
  call('HSET', TASK .. name, 'state', 'SCHEDULED', 'queue', queue_name, 'create', int(now),
    'due', int(due), 'seq', 1, 'op', operation)
  if ARGV[at + 4] ~= '' then
    call('HSET', TASK .. name, 'deadline', ARGV[at + 4])
  end
  -- Microseconds, plus the place in the call: tasks of one call keep their order.
  call('ZADD', INDEX .. project, int(now_us + i), id)
  if request_id ~= '' then
    call('SET', REQUEST .. project .. '/' .. request_id, id .. ' ' .. fingerprint, 'PX', request_ttl)
  end
  use(CONFIGURATION_DB)
  call('HSET', CONFIG .. name, 'request', ARGV[at + 5], 'policy', ARGV[at + 6])
  if ARGV[at + 7] ~= '' then
    call('HSET', CONFIG .. name, 'labels', ARGV[at + 7])
  end
  use(AUTHORISATION_DB)
  call('HINCRBY', PROJECT .. project, 'taskInQueue', 1)
  live = live + 1
  record(name, 0, { e = 'SUBSCRIBED', x = due })
  enqueue(queue, id, due)
  return { 'OK', now, due }
end

local results = {}
for i = 1, count do
  results[i] = accept(i, 6 + (i - 1) * STRIDE)
end
settle()
return results
