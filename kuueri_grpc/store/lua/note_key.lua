#!lua flags=allow-oom
-- note_key.lua: note a key that records are sealed under from now on. A full store takes it: a server that
-- starts with a new key must be able to run what is there.
-- KEYS: the store's identity. ARGV: field, check value
-- Returns: 1 noted, 0 it was
-- Idempotent: what is noted stays.
return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
