#!lua flags=no-writes
-- stale.lua: look for what of a project is sealed under another key than the newest, the oldest tasks first.
-- ARGS: project, what records under the newest key begin with, cursor score ('-inf' to start), cursor task
--       ('' to start), how many tasks to look at at the most
-- Returns: {signing secrets (JSON) or '', tasks looked at, {task, request, task, request ...}, cursor
--       score or '' at the end, cursor task}
-- Bounded by the bytes that it looks at: the requests of a MiB, and one of any size.
-- Idempotent: reads only.
local project, newest, from, after, look_at = ARGS[1], ARGS[2], ARGS[3], ARGS[4], tonumber(ARGS[5])
local MOST_BYTES = 1024 * 1024

use(AUTHORISATION_DB)
local signing = call('HGET', PROJECT .. project, 'signing') or ''
use(EXECUTION_DB)
-- Those of the cursor's own score come again, and must not use up the page.
local seen = from == '-inf' and 0 or call('ZCOUNT', INDEX .. project, from, from)
local entries = call('ZRANGE', INDEX .. project, from, '+inf', 'BYSCORE', 'LIMIT', 0, look_at + seen,
  'WITHSCORES')
use(CONFIGURATION_DB)
local looked, size, stale = 0, 0, {}
local score, task = '', ''
for i = 1, #entries, 2 do
  local id = entries[i]
  -- Tasks of one score come by their ids: the cursor has seen those up to its own.
  if entries[i + 1] ~= from or id > after then
    local config = CONFIG .. project .. '/' .. id
    size = size + call('HSTRLEN', config, 'request')
    if looked == look_at or (looked > 0 and size > MOST_BYTES) then
      break
    end
    looked = looked + 1
    score, task = entries[i + 1], id
    local request = call('HGET', config, 'request')
    if request and string.sub(request, 1, #newest) ~= newest then
      stale[#stale + 1] = id
      stale[#stale + 1] = request
    end
  end
end
return { signing, looked, stale, score, task }
