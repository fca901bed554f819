#!lua flags=no-writes
-- timeline.lua: read events after a sequence, with the task as it is in the same instant.
-- ARGS: project, task, after sequence, limit
-- Returns: {'OK', snapshot, sequence from which on all are kept, how many of the first events are kept where others
--       between them and that one are not (else 0), events (JSON)} | {'MISSING'}
-- Idempotent: reads only.
local name, after, limit = ARGS[1] .. '/' .. ARGS[2], tonumber(ARGS[3]), tonumber(ARGS[4])

local function sequence_of(text)
  return tonumber(string.match(text or '', '^{"n":(%d+)'))
end

-- How many events are in front of those that are kept without a gap up to the last one, see `trim_timeline`.
-- `offset`: the difference between the sequence and the place of the latter.
local function count_in_front(key, kept, offset)
  local low, high = 0, math.max(0, kept - 1)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sequence_of(call('LINDEX', key, middle)) == offset + middle then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local function kept_timeline(last)
  use(TIMELINE_DB)
  local key = TIMELINE .. name
  local kept = call('LLEN', key)
  local offset = last - kept + 1
  local front, first_kept = 0, 0
  if offset > 1 then
    front = count_in_front(key, kept, offset)
    -- A version that keeps the newest alone may have cut the front, too: what it left of it begins nowhere.
    first_kept = front > 0 and sequence_of(call('LINDEX', key, 0)) == 1 and front or 0
  end
  local first = math.max(1, offset + front)
  local from = after < first_kept and after or math.max(after + 1, first) - offset
  return first, first_kept, call('LRANGE', key, from, from + limit - 1)
end

use(EXECUTION_DB)
local t = call('HMGET', TASK .. name, 'seq', 'create', 'due')
local last = tonumber(t[1])
if not last then
  return { 'MISSING' }
end
if last == 0 then
  return { 'OK', snapshot(name), 1, 0, after < 1 and limit > 0 and { subscribed_line(t[2], t[3]) } or {} }
end
local found = snapshot(name)
return { 'OK', found, kept_timeline(last) }
