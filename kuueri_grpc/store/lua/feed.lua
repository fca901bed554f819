#!lua flags=no-writes
-- feed.lua: read a project's events after a position.
-- ARGS: project, position (the number of the last event known), how many entries at the most
-- Returns: {number of the latest event, number of the oldest event kept, entries}; an entry is
--       {number of its last event, flat {queue/task, event (JSON), ...}}
-- Idempotent: reads only.
local project, position, limit = ARGS[1], tonumber(ARGS[2]), tonumber(ARGS[3])

use(AUTHORISATION_DB)
local last = tonumber(call('HGET', PROJECT .. project, 'events') or 0)
use(TIMELINE_DB)

local function number(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

-- The events of an entry. That a task was subscribed is kept as its due time alone, with the entry's time in front.
local function events_of(entry)
  local kept = entry[2]
  if kept[1] ~= FEED_TIME then
    return kept
  end
  local events = {}
  for i = 3, #kept, 2 do
    events[i - 2] = kept[i]
    events[i - 1] = string.match(kept[i + 1], '^%d+$') and subscribed_line(kept[2], kept[i + 1]) or kept[i + 1]
  end
  return events
end

local oldest = call('XRANGE', FEED .. project, '-', '+', 'COUNT', 1)[1]
local first = oldest and number(oldest) - #events_of(oldest) / 2 + 1 or last + 1

local entries = {}
if position < last then
  -- The first entry that ends after the position; the caller skips what it knows of it.
  for _, entry in ipairs(call('XRANGE', FEED .. project, int(position + 1), '+', 'COUNT', limit)) do
    entries[#entries + 1] = { number(entry), events_of(entry) }
  end
end
return { last, first, entries }
