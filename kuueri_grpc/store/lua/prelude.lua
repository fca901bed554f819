-- prelude.lua: what every script shares. Put in front of each of them, behind its first line (which says
-- what the script may do), when they are loaded.
--
-- KEYS are the same for every script, in the order of keys.SCRIPT_KEY_NAMES; all carry one hash tag.
-- Stems (QUEUE, TASK, ...) are completed with `<project>/<name>`.
--
-- A script that fails half-way is not rolled back: check everything before the first write.

local DUE, LEASES, ENDED = KEYS[1], KEYS[2], KEYS[3]
local QUEUE, TASK, INDEX, REQUEST, CLAIM = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local CONFIG, TIMELINE, PROJECT, CREDENTIALS = KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local WAKE, WATCH = KEYS[13], KEYS[14]

local AUTHORISATION_DB, EXECUTION_DB, CONFIGURATION_DB, TIMELINE_DB = 0, 1, 2, 3

local call = redis.call

local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
-- Rounded down, so that nothing is ever early.
local now = math.floor(now_us / 1000)

-- Lua prints large floats with an exponent; the store must see whole numbers.
local function int(number)
  return string.format('%.0f', number)
end

local selected = nil
local function use(db)
  if selected ~= db then
    call('SELECT', db)
    selected = db
  end
end

local WAITING = { SCHEDULED = true, RETRYING = true, REPEATING = true }
local TERMINAL = { COMPLETED = true, CANCELED = true, FAILED = true, EXPIRED = true }

-- The due index ----------------------------------------------------------------------------------

local touched = {} -- queues whose entry in DUE may have to change: name -> least score or false
local head_before = nil -- the partition's earliest due instant when the script first touched it

local function head(key)
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2])
end

local function touch(queue)
  if head_before == nil then
    use(EXECUTION_DB)
    head_before = head(DUE) or false
  end
  if touched[queue] == nil then
    touched[queue] = false
  end
end

local function enqueue(queue, id, due)
  touch(queue)
  use(EXECUTION_DB)
  call('ZADD', QUEUE .. queue, int(due), id)
end

local function dequeue(queue, id)
  touch(queue)
  use(EXECUTION_DB)
  call('ZREM', QUEUE .. queue, id)
end

-- A queue that had its turn goes behind the others that wait: it scores at least `now`.
local function yield_turn(queue)
  touch(queue)
  touched[queue] = now
end

-- Re-score every touched queue, and wake the schedulers if the partition is due earlier than before.
-- Every script that enqueues or dequeues ends with it.
local function settle()
  if head_before == nil then
    return
  end
  use(EXECUTION_DB)
  for queue, least in pairs(touched) do
    local due = head(QUEUE .. queue)
    if due then
      call('ZADD', DUE, int(math.max(due, least or 0)), queue)
    else
      call('ZREM', DUE, queue)
    end
  end
  local head_after = head(DUE)
  if head_after and (not head_before or head_after < head_before) then
    call('PUBLISH', WAKE, int(head_after))
  end
end

-- The timeline -----------------------------------------------------------------------------------

-- Append an event and return its sequence. `event` gets its sequence (n) and time (t) here; the
-- caller stores the returned sequence in the task's `seq`.
local function record(name, sequence, event, keep)
  event.n = sequence + 1
  event.t = now
  use(TIMELINE_DB)
  local length = call('RPUSH', TIMELINE .. name, cjson.encode(event))
  if keep and length > keep then
    call('LTRIM', TIMELINE .. name, -keep, -1)
  end
  call('PUBLISH', WATCH .. name, event.n)
  return event.n
end

-- Ends -------------------------------------------------------------------------------------------

-- Give every key of an ended task its time to live, and the quota back. The caller writes the final
-- state and event first.
local function retire(project, name, retention)
  use(AUTHORISATION_DB)
  if call('EXISTS', PROJECT .. project) == 1 then
    call('HINCRBY', PROJECT .. project, 'taskInQueue', -1)
  end
  use(EXECUTION_DB)
  call('PEXPIRE', TASK .. name, retention)
  call('ZADD', ENDED, int(now + retention), name)
  use(CONFIGURATION_DB)
  call('PEXPIRE', CONFIG .. name, retention)
  use(TIMELINE_DB)
  call('PEXPIRE', TIMELINE .. name, retention)
end

-- Reading ----------------------------------------------------------------------------------------

-- The record of a task as codec.py reads it: {hash of database 1 flat, hash of database 2 flat}.
local function snapshot(name)
  use(EXECUTION_DB)
  local task = call('HGETALL', TASK .. name)
  use(CONFIGURATION_DB)
  return { task, call('HGETALL', CONFIG .. name) }
end

-- The queue member and the task id of `<project>/<task>`.
local function split(name)
  local slash = string.find(name, '/', 1, true)
  return string.sub(name, 1, slash - 1), string.sub(name, slash + 1)
end
