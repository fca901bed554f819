-- prelude.lua: what every script shares: what it is given, gathered writes, the due index. Put in front of each of
-- them, behind its first line (which says what the script may do), when they are loaded. lib_four_databases.lua or
-- lib_one_database.lua precedes it, lib_task.lua follows.
--
-- KEYS are the same for every script, in the order of keys.SCRIPT_KEY_NAMES; all carry one hash tag.
-- Stems (QUEUE, TASK, ...) are completed with `<project>/<name>`.
-- ARGV: history retention (ms), events kept per task, events kept per project; what follows differs from
-- script to script and is ARGS there.
--
-- Writes are gathered while a script reads and decides, and made by `commit`: a script that fails before
-- has changed nothing (what failed half-way would not be rolled back), each database is selected once,
-- and what a batch writes to one index is one command. A call costs more than what most commands do.

local DUE, LEASES, ENDED = KEYS[1], KEYS[2], KEYS[3]
local QUEUE, TASK, INDEX, REQUEST, CLAIM = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local CONFIG, TIMELINE, PROJECT, CREDENTIALS = KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local FEED, WAKE, WATCH, NEWS, CLOSED = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local DEADLINES, PROJECTS = KEYS[18], KEYS[19]

local RETENTION, TIMELINE_CAP, FEED_CAP = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ARGS = {}
for i = 4, #ARGV do
  ARGS[i - 3] = ARGV[i]
end

local call = redis.call

local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
-- Rounded down, so that nothing is ever early.
local now = math.floor(now_us / 1000)

-- Lua prints large floats with an exponent; the store must see whole numbers.
local function int(number)
  return string.format('%.0f', number)
end

local NOW = int(now)

local selected = 0 -- every connection is in database 0
local function use(db)
  if selected ~= db then
    call('SELECT', db)
    selected = db
  end
end

local WAITING = { SCHEDULED = true, RETRYING = true, REPEATING = true }
local TERMINAL = { COMPLETED = true, CANCELED = true, FAILED = true, EXPIRED = true }

-- The queue member and the task id of `<project>/<task>`.
local function split(name)
  local slash = string.find(name, '/', 1, true)
  return string.sub(name, 1, slash - 1), string.sub(name, slash + 1)
end

-- A field that was emptied reads as absent: writing '' is one command less than HDEL beside HSET.
local function present(value)
  return value and value ~= '' and value or nil
end

-- Gathered writes --------------------------------------------------------------------------------

local writes = { [0] = {}, {}, {}, {} } -- by database: commands in order
local members = { [0] = {}, {}, {}, {} } -- by database: 'COMMAND key' -> {command, key, members ...}
local counted = {} -- projects whose counters are to be written
local FEED_TIME = 't' -- what is so called in an entry of a feed is no event: those are called queue/task
local feeds = {} -- project -> {queue/task, event, queue/task, event ...}
local timed = {} -- projects in whose feeds a due time stands for that a task was subscribed, see feed.lua
local messages = {} -- channel -> text

-- Many arguments in one command are cheap, but Lua's stack is finite.
local MOST_ARGUMENTS = 2000

local function gather(db, command)
  local list = writes[db]
  list[#list + 1] = command
end

local function write(db, ...)
  gather(db, { ... })
end

-- `first`, `second`: a member, or a score and its member.
local function write_member(db, command, key, first, second)
  local name = command .. ' ' .. key
  local gathered = members[db][name]
  if not gathered or #gathered > MOST_ARGUMENTS then
    if gathered then
      write(db, unpack(gathered))
    end
    gathered = { command, key }
    members[db][name] = gathered
  end
  local last = #gathered
  gathered[last + 1], gathered[last + 2] = first, second
end

-- The due index ----------------------------------------------------------------------------------

local touched = {} -- queues whose entry in DUE may have to change: name -> its place in the row, or false

local function head(key)
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2])
end

local function touch(queue)
  touched[queue] = touched[queue] or false
end

-- `due`: an instant, as text.
local function enqueue(queue, id, due)
  touch(queue)
  write_member(EXECUTION_DB, 'ZADD', QUEUE .. queue, due, id)
end

local function dequeue(queue, id)
  touch(queue)
  write_member(EXECUTION_DB, 'ZREM', QUEUE .. queue, id)
end

-- A queue that had its turn goes behind the others that wait: it scores at least `now`.
local function yield_turn(queue)
  touched[queue] = now
end

-- Announce an instant (ms), unless an earlier one is announced.
local function wake_at(instant)
  messages[WAKE] = int(math.min(instant, tonumber(messages[WAKE] or instant)))
end

-- Re-score every touched queue, and wake the schedulers if one of them is due earlier than before.
-- A queue that is ready keeps its place in the row, and one that becomes ready goes to its end: however
-- old its first task is, it does not get in front of those that wait for their turn.
--
-- Members that a process has no room for stay at the head of DUE, all of them due. So a head that is due says
-- nothing of what the schedulers sleep until, and whatever got earlier is announced. A head in the future is
-- known to all of them, and announces what comes after it.
local function settle(head_before)
  local earliest = nil
  for queue, place in pairs(touched) do
    local due = head(QUEUE .. queue)
    if due then
      -- What had its turn, or was set aside in a lane, was due before and is no news.
      local is_news = not place and not string.find(queue, '~', 1, true)
      local before = not place and call('ZSCORE', DUE, queue)
      local after = math.max(due, place or math.min(now, tonumber(before or now)))
      call('ZADD', DUE, int(after), queue)
      if is_news and (not before or after < tonumber(before)) then
        earliest = math.min(after, earliest or after)
      end
    else
      call('ZREM', DUE, queue)
    end
  end
  if earliest and (not head_before or head_before <= now or earliest < head_before) then
    wake_at(earliest)
  end
  touched = {}
end

-- Start deadlines --------------------------------------------------------------------------------

-- A task with a start deadline that has not started is in DEADLINES, by the first instant (ms) at which it has
-- expired, wherever it waits: also where no process has room for it.
local first_deadline = nil -- the earliest that this script adds

-- `deadline`: the task's field of that name, or ''.
local function await_start(name, due, deadline)
  if present(deadline) then
    local expiry = tonumber(due) + tonumber(deadline) + 1
    write_member(EXECUTION_DB, 'ZADD', DEADLINES, int(expiry), name)
    first_deadline = math.min(expiry, first_deadline or expiry)
  end
end

local function await_start_no_more(name, deadline)
  if present(deadline) then
    write_member(EXECUTION_DB, 'ZREM', DEADLINES, name)
  end
end

-- Project -> its counters, {events, live tasks}; false: there is no such project. A counter that is no number counts
-- as 0: a command that needs a number would fail after others have been made.
local known_projects = {}

local function counter(kept)
  local number = tonumber(kept)
  return number and number > -1e15 and number < 1e15 and number or 0
end

-- `events`, `live`: the project's fields `events` and `taskInQueue`.
local function know_project(project, events, live)
  known_projects[project] = { counter(events), counter(live) }
end

local function project_exists(project)
  if known_projects[project] == nil then
    use(AUTHORISATION_DB)
    local kept = redis.pcall('HMGET', PROJECT .. project, 'events', 'taskInQueue', 'id')
    known_projects[project] = false
    if not kept.err and kept[3] then
      know_project(project, kept[1], kept[2])
    end
  end
  return known_projects[project] and true
end

-- The number of the last event in a project's feed: that of the counter, `events`, unless the counter came back from an
-- older backup than the feed. An XADD of a number that the feed is past fails, so this is checked before the first write.
local function last_in_feed(project, events)
  use(TIMELINE_DB)
  local beyond = redis.pcall('XRANGE', FEED .. project, int(events + 1), '+', 'COUNT', 1)
  if beyond.err then
    write(TIMELINE_DB, 'DEL', FEED .. project) -- it is no stream
  elseif beyond[1] then
    local last = call('XREVRANGE', FEED .. project, '+', '-', 'COUNT', 1)[1]
    return tonumber(string.match(last[1], '^%d+'))
  end
  return events
end

-- Append this script's events of each project to its feed: one entry, whose id is the number of its
-- last event. Numbers count up per project without gaps, so a reader notices what was trimmed.
local function publish_feeds()
  for project, list in pairs(feeds) do
    if project_exists(project) then
      local counters = known_projects[project]
      local last = last_in_feed(project, counters[1]) + #list / 2
      counters[1], counted[project] = last, true
      local entry = { 'XADD', FEED .. project, 'MINID', '~', int(math.max(0, last - FEED_CAP)), int(last) .. '-0' }
      if timed[project] then
        entry[7], entry[8] = FEED_TIME, NOW
      end
      local before = #entry
      for i = 1, #list do
        entry[before + i] = list[i]
      end
      gather(TIMELINE_DB, entry)
      write(TIMELINE_DB, 'PEXPIRE', FEED .. project, RETENTION)
      messages[NEWS .. project] = int(last)
    end
  end
  feeds = {}
end

local unfolded = {} -- project/task -> the line that its timeline is to begin with, see `unfold`
local long_timelines = {} -- keys of timelines that may have to be trimmed


-- Keep the first events of a timeline and the newest. What is between goes when there are more than TIMELINE_CAP, many
-- at a time, so that an event of a long timeline costs about what any other does.
local FIRST_KEPT = math.min(100, math.ceil(TIMELINE_CAP / 20))
local NEWEST_KEPT = math.floor(TIMELINE_CAP * 9 / 10)

local function trim_timeline(key)
  if call('LLEN', key) <= TIMELINE_CAP then
    return
  end
  local first, command = call('LRANGE', key, 0, FIRST_KEPT - 1), { 'LPUSH', key }
  call('LTRIM', key, -NEWEST_KEPT, -1)
  for i = #first, 1, -1 do
    if not string.find(first[i], '^{"n":' .. i .. ',') then
      return -- its beginning is gone: an earlier version keeps the newest alone
    end
    command[#command + 1] = first[i]
  end
  call(unpack(command))
end

-- Make the gathered writes. Every script that writes ends with it.
local function commit()
  publish_feeds()
  for name, text in pairs(unfolded) do
    write(TIMELINE_DB, 'RPUSH', TIMELINE .. name, text)
  end
  unfolded = {}
  for project in pairs(counted) do
    local counters = known_projects[project]
    write(AUTHORISATION_DB, 'HSET', PROJECT .. project, 'events', int(counters[1]), 'taskInQueue', int(counters[2]))
  end
  counted = {}
  for db = AUTHORISATION_DB, TIMELINE_DB do
    if #writes[db] > 0 or next(members[db]) or (db == EXECUTION_DB and next(touched)) then
      use(db)
      local head_before = db == EXECUTION_DB and next(touched) and head(DUE)
      if db == EXECUTION_DB and first_deadline then
        local first_before = head(DEADLINES)
        if not first_before or first_deadline < first_before then
          wake_at(first_deadline)
        end
        first_deadline = nil
      end
      for _, command in ipairs(writes[db]) do
        call(unpack(command))
      end
      for _, command in pairs(members[db]) do
        call(unpack(command))
      end
      if db == EXECUTION_DB and next(touched) then
        settle(head_before)
      end
      if db == TIMELINE_DB then
        for key in pairs(long_timelines) do
          trim_timeline(key)
        end
        long_timelines = {}
      end
      writes[db], members[db] = {}, {}
    end
  end
  for channel, text in pairs(messages) do
    call('PUBLISH', channel, text)
  end
  messages = {}
end
