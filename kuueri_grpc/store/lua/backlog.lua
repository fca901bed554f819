#!lua flags=no-writes
-- backlog.lua: what waits in this partition.
-- ARGS: how many queues to look into at the most
-- Returns: {now, tasks waiting, tasks due, due time of the oldest or -1, leases, queues}
--       counted in the queues that are due first, if there are more than ARGS[1] of them
-- Idempotent: reads only.
use(EXECUTION_DB)
local waiting, due, oldest = 0, 0, nil
for _, queue in ipairs(call('ZRANGE', DUE, 0, tonumber(ARGS[1]) - 1)) do
  waiting = waiting + call('ZCARD', QUEUE .. queue)
  local first = head(QUEUE .. queue)
  if first and first <= now then
    due = due + call('ZCOUNT', QUEUE .. queue, '-inf', NOW)
    oldest = math.min(oldest or first, first)
  end
end
return { now, waiting, due, oldest or -1, call('ZCARD', LEASES), call('ZCARD', DUE) }
