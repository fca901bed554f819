#!lua flags=no-writes
-- foreign.lua: count keys that are not this server's, among the first of each database.
-- KEYS: none. ARGV: how many databases, how many keys to look at in each
-- Returns: for each database how many of the keys that were looked at are not this server's
-- Idempotent: it only reads.
local counts = {}
for database = 0, ARGV[1] - 1 do
  redis.call('SELECT', database)
  local foreign = 0
  for _, key in ipairs(redis.call('SCAN', '0', 'COUNT', ARGV[2])[2]) do
    if not (string.find(key, '^kuueri:') or string.find(key, '^{kuueri}:') or string.find(key, '^{%d+}:')) then
      foreign = foreign + 1
    end
  end
  counts[#counts + 1] = foreign
end
return counts
