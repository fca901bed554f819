-- lib_request.lua: what is kept of a request id. Put behind lib_task.
--
-- The key of a request id lives for its time, whatever becomes of the task that it made, and holds
-- `<task id> <fingerprint> <op>`: the `op` is that of the task's record, and tells the task from a later one of its
-- id. An earlier version, which may share the store, wrote no `op`, and fingerprints of another kind.

-- The answer to a call whose request id is kept as `made`; nil where it is not kept.
-- `fingerprints`: those of the call, any of which may be kept.
local function answer_request(project, made, fingerprints)
  if not made then
    return nil
  end
  local task_id, fingerprint, op = string.match(made, '^(%S+) (%S+) ?(%S*)')
  assert(task_id, 'what is kept of a request id is damaged')
  local same = string.find(fingerprints, fingerprint, 1, true)
  if op ~= '' and not same then
    return { 'REUSED', task_id }
  end
  use(EXECUTION_DB)
  local name = project .. '/' .. task_id
  local kept = call('HGET', TASK .. name, 'op')
  if not kept or (op ~= '' and kept ~= op) then
    return { 'PURGED', task_id } -- by a call, or its history has expired
  end
  return { same and 'SAME' or 'COMPARE', task_id, snapshot(name) }
end
