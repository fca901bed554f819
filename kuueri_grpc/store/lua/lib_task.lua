-- lib_task.lua: what every script shares of how a task is told of, ends and is read. Put behind the prelude.

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
    write(TIMELINE_DB, 'LTRIM', TIMELINE .. name, -TIMELINE_CAP, -1)
  end
  messages[WATCH .. name] = sequence
  return sequence
end

-- Ends -------------------------------------------------------------------------------------------

local FORGOTTEN = int(now + RETENTION) -- when what ends now is

local function count_live(project, change)
  if project_exists(project) then
    live[project] = (live[project] or 0) + change
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

-- Keep `text` under a name of a project: a request id, or what begins with one '~'. `lasts`: a day at the most (ms).
local function remember(project, name, text, lasts)
  write(EXECUTION_DB, 'SET', REQUEST .. project .. '/' .. name, text, 'PX', lasts)
  local span = math.floor(now / SPAN)
  local list = REQUEST .. project .. '/~~' .. int(span)
  write(EXECUTION_DB, 'RPUSH', list, name)
  if not listed[list] then
    write(EXECUTION_DB, 'PEXPIREAT', list, int((span + 1) * SPAN + DAY))
    listed[list] = true
  end
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
