#!lua flags=allow-oom
-- announce.lua: an instance says that it lives. Runs without the prelude: it is in no partition.
-- KEYS: {kuueri}:instances, {kuueri}:instances:details
-- ARGV: instance, its details (JSON), silence after which an instance is forgotten (ms), how long the keys
--       stay when nobody is left to announce anything (ms)
-- Returns: {details, silence (ms), details, silence (ms), ...} of all that are not forgotten
-- Idempotent: yes; the same call again is the next heartbeat.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
for _, silent in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[3]), 'BYSCORE')) do
  redis.call('ZREM', KEYS[1], silent)
  redis.call('HDEL', KEYS[2], silent)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])

local seen = {}
local beats = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #beats, 2 do
  local details = redis.call('HGET', KEYS[2], beats[i])
  if details then
    seen[#seen + 1] = details
    seen[#seen + 1] = math.max(0, now - beats[i + 1])
  end
end
return seen
