#!lua flags=no-writes
-- backlog.lua: what waits in this partition.
-- ARGS: how many queues to look into at the most
-- Returns: {now, tasks waiting, tasks due, due time of the oldest or -1, leases, queues}
--       counted in the queues that are due first, if there are more than ARGS[1] of them
-- Idempotent: reads only.
use(EXECUTION_DB)
local waiting, due, oldest = 0, 0, nil
local MOST_EARLIER = 10 -- tasks of a queue that were due before they were made, which are looked at

-- Since when the first task of a queue waits. One that was due before it was made waits since then.
local function waits_since(queue)
  local project = split(queue)
  local since = nil
  local first = call('ZRANGE', QUEUE .. queue, 0, MOST_EARLIER - 1, 'WITHSCORES')
  for i = 1, #first, 2 do
    local score = tonumber(first[i + 1])
    local create = tonumber(redis.pcall('HGET', TASK .. project .. '/' .. first[i], 'create')) or score
    since = math.min(since or now, math.max(score, create))
    if create <= score then
      break
    end
  end
  return since
end

for _, queue in ipairs(call('ZRANGE', DUE, 0, tonumber(ARGS[1]) - 1)) do
  waiting = waiting + call('ZCARD', QUEUE .. queue)
  local first = head(QUEUE .. queue)
  if first and first <= now then
    due = due + call('ZCOUNT', QUEUE .. queue, '-inf', NOW)
    oldest = math.min(oldest or now, waits_since(queue))
  end
end
return { now, waiting, due, oldest or -1, call('ZCARD', LEASES), call('ZCARD', DUE) }
