#!lua flags=allow-oom
-- claim.lua: give expired leases back, expire what did not start in time, then take due tasks, each leased under a
-- fencing token.
-- ARGS: limit, lease (ms), instance, claim id, losses before POISON, until when the caller waits (ms or ''),
--       claim ids of the caller whose answers it never had (separated by blanks, or ''), 1 if it has room
--       for a suspect (else ''), bytes of requests that it has room for, 1 if one task may be larger (else ''),
--       the score in DUE to look from ('' the beginning), how many tasks of one project it has room for, number of
--       projects for which that is another number, for each of them: project, number; then the lanes that it has
--       no room for, each as <project>/<lane>
-- Returns: {now, next due or -1, claims, secrets, recovered, poisoned, expired, 1 if lanes were left, else 0,
--       1 if suspects were left, else 0, unreadable, projects that were left, 1 if a task was left for its
--       size, else 0, the score to look from next time, next chore or -1}
--       claim: {project, task, queue, token, attempt, retry, repeat, run start, due, create, lane or '',
--                for how long to watch it (ms, 0: it is no suspect), request, policy}
--       next due: of what the caller has room for; next chore: of what needs no room (ends of leases, deadlines)
--       secrets: flat {project, signing secrets JSON, ...} of the projects in the claims
--       recovered: flat {project/task, attempt, reason, ...}; poisoned: flat {project/task, attempt, ...};
--       expired: how many; unreadable: {project/task, ...} that have FAILED, as their records are damaged
-- The score: of what is before it in DUE the caller has room for nothing, nor will it while it has no room for
-- more than now. What becomes due goes behind `now`, so the same members are not looked at again and again.
-- Idempotent: an instance's latest claim id is kept; the same id again gives the tasks that are
-- leased under it and takes nothing new. A call that is carried out after its caller has given up (the
-- server was frozen, and finds it in a socket) changes nothing.
local limit, lease, instance, claim_id = tonumber(ARGS[1]), tonumber(ARGS[2]), ARGS[3], ARGS[4]
local max_losses, waits_until, unanswered = tonumber(ARGS[5]), tonumber(ARGS[6]), ARGS[7] -- then lib_room.lua's

local MOST_RECOVERED = 40 -- leases that have run out, in one call: each is a task to put back
local lease_end = int(now + lease)
local PAGE = 100 -- tasks that are looked at in one go
local MOST_MOVED = 500 -- tasks of a queue that go to a lane in one call
local MOST_EXPIRED = 100 -- tasks whose deadlines have passed, in one call

local claims = {}
local recovered, poisoned, expired, unreadable = {}, {}, 0, {}

-- For how long a suspect is watched (ms). `watch`: its field of that name.
local function watch_time(watch)
  return whole(watch, 2 * lease) or 2 * lease
end

local function replay()
  for _, name in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    local t = call('HMGET', TASK .. name, 'token', 'queue', 'attempt', 'retry', 'repeat', 'start', 'due',
      'create', 'lane', 'lost', 'watch')
    if t[1] and string.sub(t[1], 1, #claim_id + 1) == claim_id .. ':' then
      local project, id = split(name)
      claims[#claims + 1] = { project, id, t[2], t[1], tonumber(t[3]), tonumber(t[4] or 0),
        tonumber(t[5] or 0), tonumber(t[6]), tonumber(t[7]), tonumber(t[8]), t[9] or '',
        suspect(t[10]) and watch_time(t[11]) or 0 }
    end
  end
  -- In the order of the first answer, which the tokens number.
  table.sort(claims, function(a, b)
    return tonumber(string.match(a[4], '%d+$')) < tonumber(string.match(b[4], '%d+$'))
  end)
end

local function set_aside(project, queue_name, id, claimed)
  unreadable[#unreadable + 1] = project .. '/' .. id
  end_unreadable(project, queue_name, id, nil, claimed)
end

-- The LEASED fields of a task in flight, whose lease ends. Nil: it is not in flight, or set aside.
local function leased(name)
  local project, id = split(name)
  write_member(EXECUTION_DB, 'ZREM', LEASES, name)
  use(EXECUTION_DB) -- parking the one before may have looked elsewhere
  local t = fields_of(name, unpack(LEASED))
  if is_damaged(t) then
    return set_aside(project, t[2] or 'default', id)
  end
  return t[1] == 'DISPATCHING' and t or nil
end

-- The holder of this lease died or hung. `ended`: when the lease ran out.
local function recover(name, ended)
  local t = leased(name)
  if not t then
    return
  end
  local project, id = split(name)
  local lost = whole(t[8], 0) or 0
  -- Others were lost with its holder as well, and any of them may have been the cause: that is held against it
  -- twice. From then on it is watched, alone of its kind, and a loss counts if it was for all of that time.
  local lived = ended - lease - (whole(t[9], ended) or ended)
  if suspect(t[8]) and lived > watch_time(t[10]) then
    write(EXECUTION_DB, 'HSET', TASK .. name, 'watch', int(2 * lived))
  else
    lost = lost + 1
    if lost == SUSPICIOUS then
      write(EXECUTION_DB, 'HSET', TASK .. name, 'watch', '')
    end
  end
  if lost < max_losses then
    recovered[#recovered + 1] = name
    recovered[#recovered + 1] = tonumber(t[4])
    recovered[#recovered + 1] = 'LEASE_LOST'
    return give_back(project, id, t, 'LEASE_LOST', lost)
  end
  poisoned[#poisoned + 1] = name
  poisoned[#poisoned + 1] = tonumber(t[4])
  local sequence = record(project, t[2], id, tonumber(t[3]), event('FAILED', tonumber(t[4]), 'POISON'))
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'FAILED', 'seq', sequence, 'end', NOW,
    'lost', lost, 'token', '', 'holder', '', 'due', '', 'hold', '', 'redo', '')
  retire(project, name)
end

-- Nothing of these claims was sent: their tasks need not wait until the leases run out, and lost nobody.
local function give_back_unanswered()
  local ids = {}
  for id in string.gmatch(unanswered, '%S+') do
    ids[id] = true
  end
  for _, name in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    use(EXECUTION_DB) -- setting the one before aside may have looked elsewhere
    local token = fields_of(name, 'token')[1]
    local t = token and ids[string.match(token, '^[^:]*')] and leased(name)
    if t then
      local project, id = split(name)
      recovered[#recovered + 1] = name
      recovered[#recovered + 1] = tonumber(t[4])
      recovered[#recovered + 1] = 'HANDED_BACK'
      give_back(project, id, t, 'HANDED_BACK', t[8] or '')
    end
  end
end

local function expire(name, project, queue_name, id, sequence)
  expired = expired + 1
  sequence = record(project, queue_name, id, sequence, event('EXPIRED', nil, 'START_DEADLINE'))
  write(EXECUTION_DB, 'HSET', TASK .. name, 'state', 'EXPIRED', 'seq', sequence, 'end', NOW, 'due', '')
  retire(project, name)
end

-- Tasks that did not start in time, where there is no room for them.
local function expire_overdue()
  for _, name in ipairs(call('ZRANGE', DEADLINES, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, MOST_EXPIRED)) do
    local project, id = split(name)
    use(EXECUTION_DB)
    local t = fields_of(name, 'state', 'queue', 'seq', 'due', 'lane', 'lost', 'create', 'attempt', 'deadline',
      'early')
    local due, deadline = whole(t[4]), whole(t[9])
    -- One that is damaged is met when its turn comes; what RunTask asked for runs however late it is.
    local waits = WAITING[t[1]] and t[2] and whole(t[3]) and due and deadline and not t[8] and not present(t[10])
    if waits and now <= due + deadline then
      await_start(name, due, deadline) -- a server of before there was this index has moved it
    else
      await_start_no_more(name, deadline or 'unknown')
    end
    if waits and now > due + deadline then
      dequeue_anywhere(project .. '/' .. t[2], t[5], t[6], id)
      expire(name, project, t[2], id, unfold(name, t[3], t[7], t[4]))
    end
  end
end

-- Take a task, or put it elsewhere. `lane`: the one that it is in; nil where it is in the queue itself.
local function take(queue, project, queue_name, lane, id, size)
  local name = project .. '/' .. id
  dequeue(queue, id)
  local t = fields_of(name, 'state', 'due', 'seq', 'attempt', 'retry', 'repeat', 'start', 'redo', 'deadline',
    'early', 'lane', 'create')
  local state = t[1]
  if not WAITING[state] then
    if t.broken or is_unknown(state, t[3]) then
      set_aside(project, queue_name, id, true)
    end
    return
  end
  local due, sequence, create, start = whole(t[2]), whole(t[3]), whole(t[12]), whole(t[7], now)
  local attempt, retry, repetition = whole(t[4], 0), whole(t[5], 0), whole(t[6], 0)
  if not (due and sequence and create and start and attempt and retry and repetition and whole(t[9], 0)) then
    return set_aside(project, queue_name, id, true)
  end
  local redo, early, watch = present(t[8]), present(t[10]), 0
  if redo then
    local losses = call('HMGET', TASK .. name, 'lost', 'watch')
    watch = suspect(losses[1]) and watch_time(losses[2]) or 0
  end
  if watch > 0 and not suspect_wanted then
    left_suspects = 1
    return enqueue(lane_in(queue, SUSPECTS), id, int(due))
  elseif not lane and watch == 0 and t[11] and full[project .. '/' .. t[11]] then
    left_lanes = 1
    return enqueue(lane_in(queue, t[11]), id, int(due))
  end
  sequence = unfold(name, sequence, t[12], t[2])
  if attempt == 0 then
    await_start_no_more(name, t[9])
    if t[9] and not early and now > due + tonumber(t[9]) then
      return expire(name, project, queue_name, id, sequence)
    end
  end
  if watch > 0 then
    suspect_wanted, left_suspects = false, 1 -- one at a time; there may be more
  end
  if not redo then
    attempt = attempt + 1
    if retry == 0 then
      start = now -- the first attempt of a run
    end
  end
  local token = claim_id .. ':' .. attempt .. ':' .. (#claims + 1)
  sequence = record(project, queue_name, id, sequence, event('DISPATCHED', attempt, early and 'RUN_NOW'))
  local command = { 'HSET', TASK .. name, 'state', 'DISPATCHING', 'origin', state, 'seq', sequence,
    'attempt', attempt, 'start', start == now and NOW or int(start), 'token', token, 'holder', instance, 'sent', NOW }
  if redo or early then
    command[#command + 1] = 'redo'
    command[#command + 1] = ''
    command[#command + 1] = 'early'
    command[#command + 1] = ''
  end
  gather(EXECUTION_DB, command)
  write_member(EXECUTION_DB, 'ZADD', LEASES, lease_end, name)
  claims[#claims + 1] = { project, id, queue_name, token, attempt, retry, repetition, start, due, create,
    t[11] or '', watch }
  shares[project] = shares[project] - 1
  bytes_left = bytes_left - size
end

-- Take `share` tasks of a queue, or of a lane; what goes to a lane does not count. Whether it had its turn: false
-- where the first task is larger than the room.
local function take_share(queue, share)
  local place, lane = split_lane(queue)
  local project, queue_name = split(place)
  share = math.min(share, share_left(project))
  if lane == SUSPECTS then
    share = suspect_wanted and share or 0
    share = math.min(share, 1)
  end
  local before, seen = #claims, 0
  local wanted = before + share
  if share == 0 then
    return false -- those before it took what room there was
  end
  repeat
    local count = share + (next(full) and PAGE or 0)
    local ids = call('ZRANGE', QUEUE .. queue, '-inf', NOW, 'BYSCORE', 'LIMIT', seen, count)
    local sizes = sizes_of(project, ids)
    for i, id in ipairs(ids) do
      if #claims == wanted then
        return true
      end
      if sizes[i] > bytes_left and not (one_larger and #claims == 0) then
        left_bytes = 1
        return seen > 0
      end
      seen = seen + 1
      take(queue, project, queue_name, lane, id, sizes[i])
      use(EXECUTION_DB)
    end
  until #claims == wanted or #ids < count or not next(full) or seen >= MOST_MOVED
  return true
end

use(EXECUTION_DB)
local latest = CLAIM .. instance
local given_up = waits_until and now > waits_until
local passed = look_from or 0
if not given_up and call('GET', latest) == claim_id then
  replay()
elseif not given_up then
  if unanswered ~= '' then
    give_back_unanswered()
    commit() -- or the leases that are looked at next would be theirs
    use(EXECUTION_DB)
  end
  local over = call('ZRANGE', LEASES, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, MOST_RECOVERED, 'WITHSCORES')
  for i = 1, #over, 2 do
    recover(over[i], tonumber(over[i + 1]))
  end
  use(EXECUTION_DB)
  expire_overdue()
  write(EXECUTION_DB, 'SET', latest, claim_id, 'PX', 60000)
  commit() -- what was given back can be taken below
  use(EXECUTION_DB)
  local first_lease = head(LEASES)
  local ready
  ready, passed = ready_queues(limit)
  local share = math.max(1, math.floor(limit / math.max(1, #ready)))
  for _, queue in ipairs(ready) do
    if take_share(queue, share) then
      yield_turn(queue)
    end
  end
  commit()
  if #claims > 0 and (not first_lease or now + lease < first_lease) then
    -- Nobody else has a reason to look here then: they would learn of this lease from nobody if its holder died.
    call('PUBLISH', WAKE, lease_end)
  end
end

use(EXECUTION_DB)
local next_due, chore, deadline = next_turn(passed), head(LEASES), head(DEADLINES)
chore = math.min(chore or deadline or -1, deadline or chore or -1)
if chore >= 0 then
  next_due = math.min(chore, next_due or chore)
end

-- What the dispatcher needs besides.
use(CONFIGURATION_DB)
local projects = {}
for _, claim in ipairs(claims) do
  local config = call('HMGET', CONFIG .. claim[1] .. '/' .. claim[2], 'request', 'policy')
  claim[13], claim[14] = config[1], config[2]
  projects[claim[1]] = true
end
local secrets = {}
for project in pairs(projects) do
  use(AUTHORISATION_DB)
  secrets[#secrets + 1] = project
  secrets[#secrets + 1] = call('HGET', PROJECT .. project, 'signing') or '[]'
end
local left = {}
for project in pairs(left_projects) do
  left[#left + 1] = project
end
return { now, next_due or -1, claims, secrets, recovered, poisoned, expired, left_lanes, left_suspects, unreadable,
  left, left_bytes, passed, chore }
