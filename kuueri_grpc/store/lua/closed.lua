#!lua flags=no-writes
-- closed.lua: name the projects of the partition that are being deleted.
-- ARGS: none
-- Returns: projects
-- Idempotent: reads only.
use(AUTHORISATION_DB)
return call('SMEMBERS', CLOSED)
