#!lua flags=allow-oom
-- list.lua: one page of a project's tasks, newest first.
-- ARGS: project, page size, how many tasks to look at at the most, cursor score ('+inf' to start),
--       cursor task ('' to start), state ('' any), queue ('' any), labels (flat JSON array of pairs)
-- Returns, of a few MiB at the most: {snapshots, cursor score or '', cursor task}; snapshot: {task, hash db 1, hash db 2}
-- Idempotent: it only drops index entries whose task is gone.
local project, page_size, look_at = ARGS[1], tonumber(ARGS[2]), tonumber(ARGS[3])
local from, after, state, queue = ARGS[4], ARGS[5], ARGS[6], ARGS[7]
local labels = cjson.decode(ARGS[8])

local function has_labels(name)
  if #labels == 0 then
    return true
  end
  use(CONFIGURATION_DB)
  local kept = call('HGET', CONFIG .. name, 'labels')
  if not kept then
    return false
  end
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

local function matches(name, t)
  return (state == '' or t[1] == state) and (queue == '' or t[2] == queue) and has_labels(name)
end

use(EXECUTION_DB)
local entries = call('ZRANGE', INDEX .. project, from, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, look_at + 1,
  'WITHSCORES')
local page = {}
local size = 0 -- of the requests in the page; the answer is made in the server's memory
local MOST_BYTES = 4 * 1024 * 1024
local looked = 0
local last = 0 -- place of the last entry looked at, when more may follow it
if #entries == 2 * (look_at + 1) then
  last = #entries - 1
end
for i = 1, #entries, 2 do
  local id, score = entries[i], entries[i + 1]
  local seen = score == from and id >= after
  if not seen then
    if #page == page_size or looked == look_at or size > MOST_BYTES then
      last = i - 2
      break
    end
    looked = looked + 1
    use(EXECUTION_DB)
    local name = project .. '/' .. id
    local t = call('HMGET', TASK .. name, 'state', 'queue')
    if not t[1] then
      write(EXECUTION_DB, 'ZREM', INDEX .. project, id)
    elseif matches(name, t) then
      local found = snapshot(name)
      page[#page + 1] = { id, found[1], found[2] }
      for _, value in ipairs(found[2]) do
        size = size + #value
      end
    end
  end
end
commit()
if last > 0 then
  return { page, entries[last + 1], entries[last] }
end
return { page, '', '' }
