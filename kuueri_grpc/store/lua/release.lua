#!lua flags=allow-oom
-- release.lua: give leases back before they run out; their attempts were aborted.
-- ARGS: number of leases, then for each: project, task, token
-- Returns: for each lease 1 (given back), 2 (FAILED, as its record is damaged) or 0 (the
--       token is stale: nothing changed)
-- Idempotent: a lease is given back once; the same call again finds its token gone and changes nothing.
local count, STRIDE = tonumber(ARGS[1]), 3

local given = {} -- tokens of this call: their writes are not made yet

local function release(project, id, token)
  local name = project .. '/' .. id
  use(EXECUTION_DB)
  local t = fields_of(name, unpack(LEASED))
  if given[token] or t[7] ~= token then
    return 0
  end
  given[token] = true
  write_member(EXECUTION_DB, 'ZREM', LEASES, name)
  if is_damaged(t) then
    end_unreadable(project, t[2] or 'default', id)
    return 2
  end
  -- Not the task's doing, so it brings it no nearer to POISON.
  give_back(project, id, t, 'HANDED_BACK', t[8] or '')
  return 1
end

local results = {}
for i = 1, count do
  local at = 2 + (i - 1) * STRIDE
  results[i] = release(ARGS[at], ARGS[at + 1], ARGS[at + 2])
end
commit()
return results
