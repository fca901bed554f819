#!lua flags=no-writes
-- permitted.lua: which commands the user that calls this may not run, by its ACL. It runs none of them.
-- KEYS: none. ARGV: two channels and two keys, one of each kind of name.
-- Returns: how many commands are checked with a key, then for each command that may not be run an array of its
-- name, and of the key if it takes one.
-- Idempotent: it only reads.
local channels = { ARGV[1], ARGV[2] }
local samples = { ARGV[3], ARGV[4] }

local WITHOUT_KEY = {
  { 'EVAL', 'return 1', '0' }, { 'EVALSHA', 'a', '0' }, { 'SCRIPT', 'LOAD', 'return 1' }, { 'TIME' }, { 'PING' },
  { 'SELECT', '0' }, { 'SCAN', '0' },
  { 'PUBLISH', channels[1], '' }, { 'PUBLISH', channels[2], '' }, { 'SUBSCRIBE', unpack(channels) },
  { 'UNSUBSCRIBE', channels[1] },
}
-- A key comes behind the command; then this.
local WITH_KEY = {
  { 'DEL' }, { 'EXISTS' }, { 'GET' }, { 'HDEL', 'f' }, { 'HEXISTS', 'f' }, { 'HGET', 'f' }, { 'HGETALL' },
  { 'HLEN' }, { 'HMGET', 'f' }, { 'HSET', 'f', 'v' }, { 'HSETNX', 'f', 'v' }, { 'HSTRLEN', 'f' },
  { 'LINDEX', '0' }, { 'LLEN' }, { 'LPOP' }, { 'LPUSH', 'v' }, { 'LRANGE', '0', '1' },
  { 'LTRIM', '0', '1' }, { 'PEXPIRE', '1' }, { 'PEXPIREAT', '1' }, { 'RPUSH', 'v' }, { 'SADD', 'm' },
  { 'SET', 'v' }, { 'SISMEMBER', 'm' }, { 'SMEMBERS' }, { 'SREM', 'm' }, { 'UNLINK' },
  { 'XADD', '*', 'f', 'v' }, { 'XRANGE', '-', '+' }, { 'XREVRANGE', '+', '-' }, { 'ZADD', '1', 'm' },
  { 'ZCARD' }, { 'ZCOUNT', '1', '2' }, { 'ZRANGE', '0', '1' }, { 'ZREM', 'm' }, { 'ZSCORE', 'm' },
}

local refused = { #WITH_KEY }
for _, command in ipairs(WITHOUT_KEY) do
  if not redis.acl_check_cmd(unpack(command)) then
    local name = command[1]
    if name == 'SCRIPT' then
      name = 'SCRIPT LOAD'
    end
    refused[#refused + 1] = { name }
  end
end
for _, command in ipairs(WITH_KEY) do
  for _, key in ipairs(samples) do
    if not redis.acl_check_cmd(command[1], key, unpack(command, 2)) then
      refused[#refused + 1] = { command[1], key }
    end
  end
end
return refused
