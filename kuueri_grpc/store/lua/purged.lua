#!lua flags=no-writes
-- purged.lua: read the latest events of a task that was purged a moment ago, for those who follow it.
-- ARGS: project, task, when it was created (ms)
-- Returns: events (JSON), none where they are not kept
-- Idempotent: reads only.
use(EXECUTION_DB)
return call('LRANGE', purged_timeline(ARGS[1], ARGS[2], ARGS[3]), 0, -1)
