#!lua flags=allow-oom
-- probe.lua: whether the store serves. Writes nothing, but is declared as a script that might, so that
-- the server refuses it whenever it refuses writes (READONLY, MISCONF, NOREPLICAS, LOADING).
-- ARGS: none
-- Returns: now
-- Idempotent: yes.
return now
