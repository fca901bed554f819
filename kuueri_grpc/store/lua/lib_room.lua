-- lib_room.lua: what the caller of claim.lua has room for, and what it has to pass by. Put behind the prelude of
-- that script, see scripts.py. ARGS from the eighth on are read here, see there.
--
-- Members of DUE that are passed by stay where they are: others may have room for them. A call begins behind those
-- that the caller has passed by before, and is short whatever their number.
local suspect_wanted = ARGS[8] == '1'
local bytes_left, one_larger, look_from = tonumber(ARGS[9]), ARGS[10] == '1', tonumber(ARGS[11])
if look_from and look_from > now then
  look_from = nil -- by a clock that was ahead: what came since may be in front of it
end
local share_of_one, others = tonumber(ARGS[12]), tonumber(ARGS[13])
local shares, full = {}, {} -- project -> how many more of its tasks; <project>/<lane> -> true
for i = 1, others do
  shares[ARGS[12 + 2 * i]] = tonumber(ARGS[13 + 2 * i])
end
for i = 14 + 2 * others, #ARGS do
  full[ARGS[i]] = true
end
local left_lanes, left_suspects, left_bytes, left_projects = 0, 0, 0, {}

local QUEUES = 100 -- that are looked at in one go
local MOST_PASSED = 1000 -- queues that are passed by in one call, each time

local function share_left(project)
  local share = shares[project] or share_of_one
  shares[project] = share
  return share
end

-- Whether the caller has no room for what is in a queue or lane that is due.
local function is_parked(queue)
  local place, lane = split_lane(queue)
  local project = split(place)
  if share_left(project) <= 0 then
    left_projects[project] = true
    return true
  elseif lane == SUSPECTS and not suspect_wanted then
    left_suspects = 1
    return true
  elseif lane and full[project .. '/' .. lane] then
    left_lanes = 1
    return true
  end
  return false
end

-- Go through DUE from a score on, until `visit(queue, score)` returns true. Stops when MOST_PASSED were visited,
-- but not in the middle of those that have the same score. Returns the score that it stopped at; nil: it did not.
local function each_due(from, until_score, visit)
  local seen, last = 0, nil
  repeat
    local page = call('ZRANGE', DUE, from or '-inf', until_score, 'BYSCORE', 'LIMIT', seen, QUEUES, 'WITHSCORES')
    for i = 1, #page, 2 do
      local score = tonumber(page[i + 1])
      if visit(page[i], score) or (seen >= MOST_PASSED and score ~= last) then
        return score
      end
      seen, last = seen + 1, score
    end
  until #page < 2 * QUEUES
end

-- The queues and lanes that are ready, in the order of their turns, `limit` at the most; and the score of the
-- first member behind those that were passed by.
local function ready_queues(limit)
  local ready, first = {}, nil
  local stopped_at = each_due(look_from and int(look_from), NOW, function(queue, score)
    if not is_parked(queue) then
      first = first or score
      if #ready < limit then
        ready[#ready + 1] = queue
      end
    end
    return first and #ready >= limit
  end)
  return ready, first or stopped_at or now
end

-- Bytes of the requests of tasks; one whose record is damaged has none.
local function sizes_of(project, ids)
  local sizes = {}
  use(CONFIGURATION_DB)
  for i, id in ipairs(ids) do
    sizes[i] = tonumber(redis.pcall('HSTRLEN', CONFIG .. project .. '/' .. id, 'request')) or 0
  end
  use(EXECUTION_DB)
  return sizes
end

-- When the first queue has its turn that the caller has room for; nil: there is none.
local function next_turn(from)
  return each_due(int(from), '+inf', function(queue, score)
    return score > now or not is_parked(queue)
  end)
end
