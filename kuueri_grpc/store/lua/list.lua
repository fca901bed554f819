#!lua flags=allow-oom
-- list.lua: some of a project's tasks, newest first: a part of a page, as what one call does is bounded.
-- ARGS: project, most tasks to return, most to look at, work (see below) to do, cursor score ('+inf' to start),
--       cursor task ('' to start), state ('' any), queue ('' any), labels (flat JSON array of pairs)
-- Returns: {snapshots, cursor score or '', cursor task, tasks looked at}; snapshot: {task, hash db 1, hash db 2}
-- Work is counted in bytes that are read, before they are; the rest that a task takes counts as bytes, too. The first
-- task is looked at and returned whatever it takes.
-- Idempotent: it only drops index entries whose task is gone.
local project, most, look_at, work = ARGS[1], tonumber(ARGS[2]), tonumber(ARGS[3]), tonumber(ARGS[4])
local from, after, state, queue = ARGS[5], ARGS[6], ARGS[7], ARGS[8]
local labels = cjson.decode(ARGS[9])

-- What reading a task takes besides its bytes, as so many of them: measured by `python -m benchmarks.micro`.
local LOOK, SNAPSHOT = 2 * 1024, 12 * 1024

local function has_labels(kept)
  local readable
  readable, kept = pcall(cjson.decode, kept)
  if not readable or type(kept) ~= 'table' then
    return false -- damaged: nobody can say whether it has them
  end
  for i = 1, #labels, 2 do
    if kept[labels[i]] ~= labels[i + 1] then
      return false
    end
  end
  return true
end

local looked, done = 0, 0

-- Whether `more` can be done in this call.
local function spend(more)
  if looked > 1 and done + more > work then
    return false
  end
  done = done + more
  return true
end

-- Returns the snapshot of a task; false: it does not match, or is gone; nil: there is no room left for it.
local function look(name, id)
  if not spend(LOOK) then
    return nil
  end
  use(EXECUTION_DB)
  local t = call('HMGET', TASK .. name, 'state', 'queue')
  if not t[1] then
    write_member(EXECUTION_DB, 'ZREM', INDEX .. project, id)
    return false
  end
  if (state ~= '' and t[1] ~= state) or (queue ~= '' and t[2] ~= queue) then
    return false
  end
  use(CONFIGURATION_DB)
  local config = CONFIG .. name
  local label_bytes = call('HSTRLEN', config, 'labels')
  if #labels > 0 then
    if label_bytes == 0 then
      return false
    end
    if not spend(label_bytes) then
      return nil
    end
    if not has_labels(call('HGET', config, 'labels')) then
      return false
    end
  end
  if not spend(SNAPSHOT + label_bytes + call('HSTRLEN', config, 'request')) then
    return nil
  end
  local found = snapshot(name)
  return { id, found[1], found[2] }
end

use(EXECUTION_DB)
-- One more than is looked at, to know whether there is more; the cursor's own task comes again.
local wanted = look_at + (from == '+inf' and 1 or 2)
local entries = call('ZRANGE', INDEX .. project, from, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, wanted, 'WITHSCORES')
local page = {}
local last = 0 -- place of the last entry looked at, when more may follow it
if #entries == 2 * wanted then
  last = #entries - 1
end
for i = 1, #entries, 2 do
  local id, score = entries[i], entries[i + 1]
  local seen = score == from and id >= after
  if not seen then
    if #page == most or looked == look_at then
      last = i - 2
      break
    end
    looked = looked + 1
    local found = look(project .. '/' .. id, id)
    if found == nil then
      looked, last = looked - 1, i - 2
      break
    elseif found then
      page[#page + 1] = found
    end
  end
end
commit()
if last > 0 then
  return { page, entries[last + 1], entries[last], looked }
end
return { page, '', '', looked }
