#!lua flags=no-writes
-- project_list.lua: some projects of a partition, by id.
-- ARGS: project to begin behind ('' at the first one), how many at the most
-- Returns: {last project that was looked at, '' where there are no more, projects}; project: {id, email, create (ms),
--       taskInQueue, taskInQueueLimit or ''}; one that is being deleted is left out
-- Idempotent: reads only.
local after, most = ARGS[1], tonumber(ARGS[2])

use(AUTHORISATION_DB)
local ids = call('ZRANGE', PROJECTS, after == '' and '-' or '(' .. after, '+', 'BYLEX', 'LIMIT', 0, most)
local found = {}
for _, id in ipairs(ids) do
  local facts = call('HMGET', PROJECT .. id, 'email', 'create', 'taskInQueue', 'taskInQueueLimit', 'closed')
  if facts[1] and not facts[5] then
    found[#found + 1] = { id, facts[1], facts[2], facts[3], facts[4] or '' }
  end
end
return { #ids == most and ids[#ids] or '', found }
