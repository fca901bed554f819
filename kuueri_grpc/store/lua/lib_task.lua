-- lib_task.lua: what every script shares of how a task is told of, ends and is read. Put behind the prelude.

-- Lanes ------------------------------------------------------------------------------------------

-- Tasks whose target has no room now wait in a lane of their queue, `<queue>~<lane>`, so that nothing waits
-- behind them (no queue's name has a '~'). A lane is a queue like any other, with turns of its own.
local function lane_in(queue, lane)
  return queue .. '~' .. lane
end

-- The queue's name and the lane in a member of DUE; the lane is nil for the queue itself.
local function split_lane(name)
  local at = string.find(name, '~', 1, true)
  if not at then
    return name, nil
  end
  return string.sub(name, 1, at - 1), string.sub(name, at + 1)
end

-- An attempt that lost this many leases may have been the cause: it is a suspect. Suspects wait in a lane of
-- their own where a process has no room for one.
local SUSPICIOUS, SUSPECTS = 2, '!'

-- `lost`: the field of that name.
local function suspect(lost)
  return (tonumber(lost or 0) or 0) >= SUSPICIOUS
end

-- A waiting task leaves the lane that it may wait in. `lane`, `lost`: its fields of those names.
local function dequeue_from_lanes(queue, lane, lost, id)
  if lane then
    dequeue(lane_in(queue, lane), id)
  end
  if suspect(lost) then
    dequeue(lane_in(queue, SUSPECTS), id)
  end
end

-- A waiting task leaves, wherever it waits.
local function dequeue_anywhere(queue, lane, lost, id)
  dequeue(queue, id)
  dequeue_from_lanes(queue, lane, lost, id)
end

-- The timeline -----------------------------------------------------------------------------------

-- A line of a timeline is JSON, see codec.py; it is put together here, as encoding tables is what a script
-- would take most of its time for. `more`: what follows its number, its time and its kind.
local function line(number, time, kind, more)
  return '{"n":' .. number .. ',"t":' .. time .. ',"e":"' .. kind .. '"' .. more .. '}'
end

-- An event for `record`. `due`: an instant, as text; `rest`: what else is to be said of it, as JSON.
local function event(kind, attempt, reason, due, rest)
  local more = attempt and ',"a":' .. attempt or ''
  if reason then
    more = more .. ',"r":"' .. reason .. '"'
  end
  if due then
    more = more .. ',"x":' .. due
  end
  return { kind, rest and more .. rest or more }
end

-- Most tasks wait once, some for long, and only that they were subscribed is to be told of them till then: that
-- is not on their timeline before something else is. `seq` is 0 so long, and what it would say is `create` and `due`.
local function subscribed_line(create, due)
  local digits = '^%d+$' -- or it is damaged
  return line(1, string.match(create or '', digits) or NOW, 'SUBSCRIBED',
    ',"x":' .. (string.match(due or '', digits) or NOW))
end

-- The sequence of a task's last event, whose first one is put on its timeline now if it was not. The arguments
-- but the first: its fields of those names.
local function unfold(name, seq, create, due)
  local sequence = tonumber(seq)
  if sequence ~= 0 then
    return sequence
  end
  unfolded[name] = subscribed_line(create, due)
  return 1
end

-- Tell watchers of a project what is on a task's timeline.
local function tell(project, place, text)
  local feed = feeds[project]
  if not feed then
    feed = {}
    feeds[project] = feed
  end
  local last = #feed
  feed[last + 1], feed[last + 2] = place, text
end

-- Append events to a task's timeline and its project's feed; return the sequence of the last, which the
-- caller writes to the task's `seq`. Events get their sequence and time here.
local function record(project, queue_name, id, sequence, ...)
  local name = project .. '/' .. id
  local place = queue_name .. '/' .. id
  local command = { 'RPUSH', TIMELINE .. name }
  if unfolded[name] then
    command[3], unfolded[name] = unfolded[name], nil
  end
  for i = 1, select('#', ...) do
    local one = (select(i, ...))
    sequence = sequence + 1
    local text = line(sequence, NOW, one[1], one[2])
    command[#command + 1] = text
    tell(project, place, text)
  end
  gather(TIMELINE_DB, command)
  if sequence > TIMELINE_CAP then
    long_timelines[TIMELINE .. name] = true
  end
  messages[WATCH .. name] = sequence
  return sequence
end

-- Where the latest events of a purged task are kept for a moment, for those who follow it. `create`: its field of that
-- name, as another task may have the id by then. No request_id has a '/', so this is the key of none.
local function purged_timeline(project, id, create)
  return REQUEST .. project .. '/' .. id .. '/' .. create
end

-- Ends -------------------------------------------------------------------------------------------

local FORGOTTEN = int(now + RETENTION) -- when what ends now is

local function count_live(project, change)
  if project_exists(project) then
    local counters = known_projects[project]
    counters[2], counted[project] = counters[2] + change, true
  end
end

-- Give every key of an ended task its time to live, and the quota back. Called after the task's last
-- writes were gathered.
local function retire(project, name)
  count_live(project, -1)
  write(EXECUTION_DB, 'PEXPIREAT', TASK .. name, FORGOTTEN)
  write(CONFIGURATION_DB, 'PEXPIREAT', CONFIG .. name, FORGOTTEN)
  write(TIMELINE_DB, 'PEXPIREAT', TIMELINE .. name, FORGOTTEN)
  write_member(EXECUTION_DB, 'ZADD', ENDED, FORGOTTEN, name)
end

-- What calls were answered -----------------------------------------------------------------------

-- What repeats a call is known by expires by itself. So that what a project has of it can be found, as
-- project_forget.lua does, its names are listed by the span in which they were made; a list lives as long as the
-- last of its names may, which is a day. No request id has a '~', so none of them is such a list.
local SPAN, SPANS, DAY = 4 * 3600 * 1000, 7, 24 * 3600 * 1000
local listed = {} -- lists that this script gives their time to live

-- Of the current span, and of those before it whose names may still be there.
local function remembered_lists(project)
  local lists = {}
  for back = 0, SPANS do
    lists[back + 1] = REQUEST .. project .. '/~~' .. int(math.floor(now / SPAN) - back)
  end
  return lists
end

-- Note that something is kept under a name of a project for a day at the most: a request id, or what begins with one
-- '~', or the timeline of a purged task.
local function list_name(project, name)
  local span = math.floor(now / SPAN)
  local list = REQUEST .. project .. '/~~' .. int(span)
  write(EXECUTION_DB, 'RPUSH', list, name)
  if not listed[list] then
    write(EXECUTION_DB, 'PEXPIREAT', list, int((span + 1) * SPAN + DAY))
    listed[list] = true
  end
end

-- Keep `text` under a name of a project for `lasts` ms.
local function remember(project, name, text, lasts)
  write(EXECUTION_DB, 'SET', REQUEST .. project .. '/' .. name, text, 'PX', lasts)
  list_name(project, name)
end

-- Leases -----------------------------------------------------------------------------------------

-- What `give_back` has to know of a task: the fields to read.
local LEASED = { 'state', 'queue', 'seq', 'attempt', 'origin', 'hold', 'token', 'lost', 'sent', 'watch' }

-- An attempt ended without an outcome: the task returns to where it waited, or is held if Pause came
-- meanwhile. The same attempt runs again, no retry is used up. `t`: its LEASED fields; `lost`: how often
-- its lease was lost so far.
local function give_back(project, id, t, reason, lost)
  local name = project .. '/' .. id
  local recovered = event('RECOVERED', tonumber(t[4]), reason, NOW)
  if present(t[6]) then
    local sequence = record(project, t[2], id, tonumber(t[3]), recovered, event('PAUSED', nil, 'BY_REQUEST'))
    write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'PAUSED', 'seq', sequence, 'lost', lost, 'redo', 1,
      'left', 0, 'token', '', 'holder', '', 'hold', '', 'due', '')
  else
    local sequence = record(project, t[2], id, tonumber(t[3]), recovered)
    write(EXECUTION_DB, 'HSET', TASK .. name, 'state', t[5], 'seq', sequence, 'lost', lost, 'redo', 1,
      'due', NOW, 'token', '', 'holder', '')
    enqueue(project .. '/' .. t[2], id, NOW)
  end
end

-- Reading ----------------------------------------------------------------------------------------

-- The record of a task as codec.py reads it: {hash of database 1 flat, hash of database 2 flat}.
local function snapshot(name)
  use(EXECUTION_DB)
  local task = call('HGETALL', TASK .. name)
  use(CONFIGURATION_DB)
  return { task, call('HGETALL', CONFIG .. name) }
end
