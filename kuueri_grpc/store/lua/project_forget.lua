#!lua flags=allow-oom
-- project_forget.lua: remove what is remembered of a closed project's request ids. They are found by the lists that
-- `remember` keeps of their names.
-- ARGS: project, how many at the most
-- Returns: how many were removed; as many as that: there may be more
-- Idempotent: what is gone is gone.
local project, limit = ARGS[1], tonumber(ARGS[2])

use(EXECUTION_DB)
local removed = 0
for _, list in ipairs(remembered_lists(project)) do
  local names = removed < limit and call('LPOP', list, limit - removed) or {}
  for _, name in ipairs(names) do
    write(EXECUTION_DB, 'UNLINK', REQUEST .. project .. '/' .. name)
  end
  removed = removed + #names
end
commit()
return removed
