#!lua flags=allow-oom
-- free_email.lua: let an e-mail address be registered again, if it is this project's.
-- KEYS: the address. ARGV: project
-- Returns: 1 if it was freed
-- Idempotent: an address that another project has since is left alone.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
