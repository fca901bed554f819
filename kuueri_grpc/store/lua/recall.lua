#!lua flags=no-writes
-- recall.lua: read what a repeated Subscribe is to be answered, for tasks that may not be accepted now.
-- ARGS: project, number of tasks, then for each: id (or ''), name of the request_id (or ''), fingerprints (or '')
-- Returns: for each task {status, ...}:
--       {'SAME', task id, snapshot} | {'COMPARE', task id, snapshot} | {'EXISTS'} | {'REUSED', task id} |
--       {'PURGED', task id}, as subscribe.lua has them | {'NONE'} where nothing is there
-- Idempotent: reads only.
local project, count = ARGS[1], tonumber(ARGS[2])

local function recall(id, request_id, fingerprints)
  use(EXECUTION_DB)
  if request_id ~= '' then
    local answer = answer_request(project, call('GET', REQUEST .. project .. '/' .. request_id), fingerprints)
    if answer then
      return answer
    end
    use(EXECUTION_DB)
  end
  if id ~= '' and call('EXISTS', TASK .. project .. '/' .. id) == 1 then
    return { 'EXISTS' }
  end
  return { 'NONE' }
end

local results = {}
for i = 1, count do
  local at = 3 * i
  results[i] = recall(ARGS[at], ARGS[at + 1], ARGS[at + 2])
end
return results
