#!lua flags=no-writes
-- peek.lua: when to look at this partition.
-- ARGS: none
-- Returns: {now, the earliest of its due and lease instants, or -1}
-- Idempotent: reads only.
use(EXECUTION_DB)
local due, lease = head(DUE), head(LEASES)
if lease and (not due or lease < due) then
  due = lease
end
return { now, due or -1 }
