#!lua flags=allow-oom
-- reseal.lua: put records that were sealed anew in the place of those that they were made of.
-- ARGS: project, signing secrets that were read ('' to leave them), those for their place, number of tasks,
--       then for each: task, the first bytes of the request that was read (they have its nonce), that for its place
-- Returns: how many records were replaced, by this call or by the same one before
-- Idempotent: what is not as it was read, because it was replaced, purged or made anew since, stays.
local project, was, becomes, count = ARGS[1], ARGS[2], ARGS[3], tonumber(ARGS[4])
local replaced = 0

if was ~= '' then
  use(AUTHORISATION_DB)
  local kept = call('HGET', PROJECT .. project, 'signing')
  if kept == was then
    call('HSET', PROJECT .. project, 'signing', becomes)
  end
  if kept == was or kept == becomes then
    replaced = replaced + 1
  end
end
use(CONFIGURATION_DB)
for i = 1, count do
  local at = 5 + (i - 1) * 3
  local key, start, sealed = CONFIG .. project .. '/' .. ARGS[at], ARGS[at + 1], ARGS[at + 2]
  local request = call('HGET', key, 'request')
  if request and string.sub(request, 1, #start) == start then
    call('HSET', key, 'request', sealed)
    replaced = replaced + 1
  elseif request == sealed then
    replaced = replaced + 1 -- its nonce is random: the same call has put it there, and the answer was lost
  end
end
return replaced
