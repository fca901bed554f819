#!lua flags=allow-oom
-- project_forget.lua: remove what is remembered of a closed project's request ids. No index names them, as they
-- expire by themselves: they are looked for among all keys, a bounded number at a time.
-- ARGS: project, cursor ('0' to start), how many keys to look at, about
-- Returns: cursor of the next call, '0' at the end
-- Idempotent: what is gone is gone.
use(EXECUTION_DB)
local page = call('SCAN', ARGS[2], 'MATCH', REQUEST .. ARGS[1] .. '/*', 'COUNT', tonumber(ARGS[3]))
if #page[2] > 0 then
  call('UNLINK', unpack(page[2]))
end
return page[1]
