-- The operations. Each has a header: request, rules, body of its answer.

local function set_share(rec, share, incarnation, revision, list)
  if share then
    share[2], share[3] = revision, list
  else
    rec[SHARES][#rec[SHARES] + 1] = { incarnation, revision, list }
  end
end

local function was_active(before, c)
  local was = before[c[ID]]
  return was ~= nil and active(was)
end

-- A tab keeps its availability and metadata across reconnects until the new connection states its own.
local function inherit(S, user, rec, before, c, left)
  if c[READY] == 'C' or (c[AVAILABILITY] and c[META]) then return c end
  local arrived, old = not was_active(before, c), nil
  if arrived then
    if #rec[SHARES] == 0 and #rec[HOLDS] == 0 and #left == 0 then return c end
    local function better(o) if not old or opened_before(old, o) then old = o end end
    for _, pair in ipairs(connections(rec)) do
      if active(pair[2]) and pair[2][TAB] == c[TAB] then better(pair[2]) end
    end
    local hold = hold_of(rec, c[TAB])
    if hold then better(hold[H_CONNECTION]) end
    local gone = find(left, c[TAB])
    if gone and c[OPENED] < gone[3] then better(gone[2]) end
  else
    old = before[c[ID]]
  end
  if not old or not (old[AVAILABILITY] or old[META]) then return c end
  c = copy(c)
  c[AVAILABILITY] = c[AVAILABILITY] or old[AVAILABILITY]
  c[META] = c[META] or old[META]
  if arrived and active(c) then S.inherited[#S.inherited + 1] = { user, c } end
  return c
end

-- Whether a kick is remembered: a node may tell later of an end before it, which leaves no window.
local function kicked(rec)
  for _, d in ipairs(rec[DEPARTURES]) do if d[3] then return true end end
  return false
end

local function settle(S, user, rec, cause)
  touch(S, user)
  local before, opened, connecting = rec[PHASE], false, false
  for i = 1, #rec[SHARES] do
    local list = rec[SHARES][i][3]
    for k = 1, #list do
      opened = opened or active(list[k])
      connecting = connecting or list[k][READY] == 'C'
    end
  end
  local phase
  if opened then
    phase = ON
  elseif before == OFF or not (#rec[HOLDS] > 0 or connecting) then
    phase = OFF
  else
    phase = HELD
  end
  rec[PHASE] = phase
  if phase == HELD then
    report(S, user, enter_window(S, user, rec, cause))
  elseif before == HELD then
    local event
    cause, event = leave_window(S, user, rec, cause)
    report(S, user, event)
  end
  if phase == OFF and before ~= OFF then rec[OFFLINE_AT] = S.now end
  -- R8: who is back from a window of an epoch that was lost is told again: watchers may know that it ran out
  local again = before == HELD and phase == ON and rec[EPOCH] ~= S.epoch
  publish(S, user, rec, cause or 'state', again)
  if phase == OFF and #rec[SHARES] == 0 and rec[SHOWN_AS][VERSION] == 0 and not kicked(rec) then
    drop_timeline(S, user, rec)
    S.records[user] = false -- nobody was ever told of this one
  end
end

-- A connection is in one share only: what a process tells as a new incarnation leaves that of the former one.
local function take_over(rec, incarnation, list, endings)
  local told = {}
  for _, c in ipairs(list) do told[c[ID]] = true end
  for _, e in ipairs(endings) do told[e[1]] = true end
  for _, share in ipairs(rec[SHARES]) do
    if share[1] ~= incarnation then
      local rest = {}
      for _, c in ipairs(share[3]) do if not told[c[ID]] then rest[#rest + 1] = c end end
      share[3] = rest
    end
  end
end

local function supersede(S, user, rec, incarnation, c)
  if #rec[SHARES] < 2 then return end
  for _, pair in ipairs(connections(rec)) do
    local old = pair[2]
    if pair[1] ~= incarnation and old[TAB] == c[TAB] and active(old)
      and old[OPENED] <= c[OPENED] then
      notice(S, 'superseded', pair[1], user, old[ID], 'superseded', '')
    end
  end
end

-- told: {user, revision, connections, endings, leaves}. R3: one writer per element, whole states, revisions.
local function merge(S, rec, incarnation, told, ended_at)
  local user, before, carried, seq = told[1], {}, find(rec[SHARES], incarnation), S.seq
  write_arrival(S, user, rec)
  local former = carried and carried[3] or {}
  for _, c in ipairs(former) do before[c[ID]] = c end
  for _, leave in ipairs(told[5]) do forget_room(rec, leave) end
  local opened = is_active(told[3])
  local present, fresh = opened or rec[PHASE] ~= OFF, rec[PHASE] == OFF and #rec[SHARES] == 0
  -- what it was told before, a store may have forgotten that lost its last writes: watchers have not
  local forgotten = not present and S.v < S.r
  local left, cause = {}, nil
  for _, e in ipairs(told[4]) do
    local since = ended_at or S.now - e[6]
    local was = before[e[1]]
    local carried = was ~= nil and active(was)
    if e[8] then was = inherit(S, user, rec, before, e[8], left) end
    cause = end_connection(S, rec, e, was, since, present or (forgotten and e[5] > e[6]), carried)
    left_end(left, e, was, since)
    local rest, share = {}, find(rec[SHARES], incarnation)
    for _, c in ipairs(share and share[3] or NONE) do
      if c[ID] ~= e[1] then rest[#rest + 1] = c end
    end
    set_share(rec, share, incarnation, told[2], rest)
  end
  local list, arrived = {}, {}
  for i = 1, #told[3] do
    local c = inherit(S, user, rec, before, told[3][i], left)
    list[i] = c
    if active(c) and not was_active(before, c) then arrived[#arrived + 1] = c end
  end
  if #list > 0 then
    set_share(rec, find(rec[SHARES], incarnation), incarnation, told[2], list)
    S.held[user] = true
  else
    local _, at = find(rec[SHARES], incarnation)
    if at then table.remove(rec[SHARES], at) end
    S.held[user] = false
  end
  local again = opened and rec[EPOCH] ~= S.epoch
  local news = fresh and S.kept > 0 and #list > 0 and #told[4] + #told[5] == 0 and #(S.news[user] or NONE) + 1
  if news then
    remember(S, user, false)
  else
    contributed(S, user, rec, incarnation, told, former, before, list, ended_at, fresh, again)
  end
  if #rec[SHARES] > (#list > 0 and 1 or 0) then take_over(rec, incarnation, list, told[4]) end
  if forgotten and #rec[HOLDS] > 0 then rec[PHASE], cause = HELD, 'connection_open' end
  for _, c in ipairs(arrived) do
    supersede(S, user, rec, incarnation, c)
    report(S, user, note_return(S, user, rec, c))
  end
  settle(S, user, rec, cause or (#arrived > 0 and 'connection_open') or nil)
  if opened then rec[EPOCH] = S.epoch end
  if news then arrived_anew(S, user, rec, incarnation, list, news, seq) end
end

local operations = {}

-- hello: {run, known epoch, incarnation, channel, nonce, processes, schema, partitions}
-- R6: another process of the server may have lost writes: a new epoch, and a recovery. R2: the channel of a new line.
function operations.hello(S)
  local q = S.request
  local stamp = q[7] .. '/' .. q[8]
  redis.call('HSETNX', S.keys[1], 'stamp', stamp)
  local found = redis.call('HGET', S.keys[1], 'stamp')
  if found ~= stamp then return finish(S, 'STAMP', { found }) end
  tick(S)
  if S.run ~= q[1] then
    local new = S.epoch == 0 and q[2] == 0
    -- a restart during the recovery from a loss brings back no window
    S.run, S.wiped = q[1], S.epoch == 0 or (S.wiped and S.v < S.r)
    redis.call('DEL', S.keys[5])
    for _, incarnation in ipairs(redis.call('ZRANGE', S.keys[2], 0, -1)) do
      local node = node_of(S, incarnation)
      redis.call('SADD', S.keys[5], 'a' .. (node and node[3] ~= '' and node[3] or incarnation))
    end
    local base = math.max(S.epoch, q[2], math.floor(S.now * 1000 + 0.5) * 1024)
    S.epoch = (math.floor(base / 1024) + 1) * 1024 + q[5]
    if S.born == 0 then
      S.born = S.epoch
      redis.call('HSET', S.keys[1], 'born', text(S.born))
    end
    -- whether an empty store ever had anything, a node that knows says within its beat
    S.r = S.v + (new and math.min(S.gap_hold, S.recovery) or S.recovery)
  elseif S.wiped and S.v < S.r and q[2] ~= 0 and q[2] ~= S.epoch then
    S.r = S.v + S.recovery
  end
  for _, process in ipairs(q[6]) do
    if redis.call('SISMEMBER', S.keys[5], 's' .. process) == 0 then
      redis.call('SADD', S.keys[5], 'a' .. process)
    end
  end
  local node = node_of(S, q[3])
  if node and redis.call('ZSCORE', S.keys[2], q[3]) then
    node[1] = max(node[1], q[4])
    save_node(S, q[3], node)
  end
  return finish(S, 'OK')
end

-- Who has a lease: a node that is cut off must know where else its clients can go.
local function leases_of(S)
  local leases, found = {}, redis.call('ZRANGE', S.keys[2], 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local other = node_of(S, found[i]) or { 0, 0, '', '' }
    leases[#leases + 1] = { found[i], other[3], tonumber(found[i + 1]), other[4] or '' }
  end
  return leases
end

-- join: {incarnation, channel, lease, process, about} -> leases
function operations.join(S)
  local q = S.request
  if S.run == '' then return finish(S, 'NO_EPOCH') end
  tick(S)
  if redis.call('HEXISTS', S.keys[4], q[1]) == 1 then return finish(S, 'FENCED') end
  local node = node_of(S, q[1])
  redis.call('ZADD', S.keys[2], S.v + q[3], q[1])
  node = node or { 0, 0, '', '' }
  local process, about = node[3], node[4]
  if q[4] ~= '' then process, about = q[4], q[5] end
  save_node(S, q[1], { max(q[2], node[1]), S.now, process, about })
  if q[4] ~= '' then
    if S.v < S.r and redis.call('SISMEMBER', S.keys[5], 's' .. q[4]) == 0 then
      redis.call('SADD', S.keys[5], 'a' .. q[4])
    end
    notice(S, 'joined', q[4], '', '', '', '')
  end
  return finish(S, 'OK', leases_of(S))
end

-- beat: {incarnation, channel, lease, about} -> {carried, leases, figures}
function operations.beat(S)
  local q = S.request
  local answer, node = admit(S, q[1], q[2])
  if answer ~= 'OK' then return finish(S, answer) end
  redis.call('ZADD', S.keys[2], S.v + q[3], q[1])
  node[4] = q[4] or node[4]
  save_node(S, q[1], node)
  local known = redis.call('HLEN', S.keys[6])
  return finish(S, 'OK', { redis.call('SCARD', S.keys[13]), leases_of(S),
    { known, known - redis.call('ZCARD', S.keys[8]), redis.call('ZCARD', S.keys[7]),
      redis.call('ZCARD', S.keys[10]) } })
end

-- asserted: {incarnation, channel}. The recovery of a store that kept its data ends when all have told what they carry.
function operations.asserted(S)
  local q = S.request
  local answer, node = admit(S, q[1], q[2])
  if answer ~= 'OK' then return finish(S, answer) end
  save_node(S, q[1], node)
  local process = node[3] ~= '' and node[3] or q[1]
  redis.call('SADD', S.keys[5], 's' .. process)
  redis.call('SREM', S.keys[5], 'a' .. process)
  local awaited = false
  for _, member in ipairs(redis.call('SMEMBERS', S.keys[5])) do
    awaited = awaited or string.sub(member, 1, 1) == 'a'
  end
  if not awaited and not S.wiped then S.r = math.min(S.r, S.v) end
  return finish(S, 'OK')
end

-- put: {incarnation, channel, contributions} -> inherited. R2 to R5.
function operations.put(S)
  local q = S.request
  local answer, node = admit(S, q[1], q[2])
  if answer ~= 'OK' then return finish(S, answer) end
  save_node(S, q[1], node)
  local users = {}
  for _, told in ipairs(q[3]) do users[#users + 1] = told[1] end
  fetch(S, users)
  for _, told in ipairs(q[3]) do
    local rec = S.records[told[1]]
    if not rec then
      rec = new_record()
      S.records[told[1]] = rec
    end
    local share = find(rec[SHARES], q[1])
    if not share or share[2] < told[2] then merge(S, rec, q[1], told, nil) end
  end
  return finish(S, 'OK', S.inherited)
end

local function retire(S, incarnation, cause)
  redis.call('ZREM', S.keys[2], incarnation)
  redis.call('HSET', S.keys[4], incarnation, cause)
  local node = node_of(S, incarnation)
  if node then
    node[1], node[4] = 0, ''
    save_node(S, incarnation, node)
  end
end

-- When somebody went; of whom nobody was ever told, only a kick is remembered.
local function left_at(rec)
  local last = rec[DEPARTURES][#rec[DEPARTURES]]
  return (rec[SHOWN_AS][VERSION] > 0 or not last) and rec[OFFLINE_AT] or last[4]
end

-- Drop users who have been offline for long, or for whom there is no room: who departed first is the first to go, also
-- when the server's clock went back meanwhile.
local function forget(S)
  local left = redis.call('ZCARD', S.keys[8])
  for _, last in ipairs({ 0, FORGET_MOST - 2 }) do -- most sweeps have nothing to forget: they look at one
    local users = redis.call('ZRANGE', S.keys[8], 0, last)
    fetch(S, users)
    for _, user in ipairs(users) do
      local rec = S.records[user]
      local there = rec and departed(rec)
      if there and left <= S.known and S.now - left_at(rec) < S.remember then return end
      left = left - 1
      if there then drop_timeline(S, user, rec) end
      if there or not rec then S.records[user] = false end
      S.away[user] = 'unsure' -- who is in the list and not away leaves it
      touch(S, user)
    end
    flush(S)
  end
end

-- sweep: {limit, with leases} -> {dead, due, leases}. R4, R7: the one place where a window ends by itself.
function operations.sweep(S)
  local limit = S.request[1]
  if S.run == '' then return finish(S, 'NO_EPOCH') end
  tick(S)
  local answer = 'OK'
  if on_hold(S) then
    answer = 'HOLD'
  else
    for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', S.keys[2], '-inf', text(S.v))) do
      retire(S, incarnation, 'node_lost')
    end
    local users = redis.call('ZRANGEBYSCORE', S.keys[7], '-inf', text(S.v), 'LIMIT', 0, limit)
    fetch(S, users)
    for _, user in ipairs(users) do
      local rec = S.records[user]
      S.due[user] = 'unsure' -- who is there without a window leaves
      touch(S, user)
      if rec then
        local staying, last, tabs = {}, nil, {}
        for _, h in ipairs(rec[HOLDS]) do
          if h[H_DEADLINE] > S.v then
            staying[#staying + 1] = h
          else
            tabs[#tabs + 1] = h[H_CONNECTION][TAB]
            if not last or h[H_DEADLINE] > last[H_DEADLINE] then last = h end
          end
        end
        if last then write_arrival(S, user, rec) end
        rec[HOLDS] = staying
        if last then
          table.sort(tabs)
          remember(S, user, cmsgpack.pack({ 'l', user, S.now, tabs, S.v }))
        end
        settle(S, user, rec, last and last[H_CAUSE])
      end
    end
    flush(S)
    forget(S)
  end
  local due = redis.call('ZRANGE', S.keys[7], 0, 0, 'WITHSCORES')[2]
  local lease = redis.call('ZRANGE', S.keys[2], 0, 0, 'WITHSCORES')[2]
  local first = math.min(due and tonumber(due) or math.huge, lease and tonumber(lease) or math.huge)
  first = first < math.huge and max(first, held_until(S)) - S.v
  return finish(S, answer, { redis.call('HKEYS', S.keys[4]), first, S.request[2] and leases_of(S) or {} })
end

-- reap: {incarnation, {cause = window}, limit} -> drained. In slices, so that nobody waits for long.
function operations.reap(S)
  local q = S.request
  if S.run == '' then return finish(S, 'NO_EPOCH') end
  tick(S)
  local cause = redis.call('HGET', S.keys[4], q[1])
  if not cause then return finish(S, 'OK', 0) end
  local window = q[2][cause] or q[2].node_lost
  local node = node_of(S, q[1])
  local ended_at = math.min(node and node[2] or S.now, S.now)
  local users = redis.call('SPOP', S.keys[13], q[3])
  table.sort(users)
  fetch(S, users)
  for _, user in ipairs(users) do
    local rec = S.records[user]
    local share = rec and find(rec[SHARES], q[1])
    if share then
      local endings = {}
      for _, c in ipairs(share[3]) do
        if active(c) then
          endings[#endings + 1] = { c[ID], c[SESSION], c[TAB], cause, window, 0, 0, false, '', '' }
        end
      end
      merge(S, rec, q[1], { user, share[2] + 1, {}, endings, {} }, ended_at)
    end
  end
  if redis.call('SCARD', S.keys[13]) == 0 then
    redis.call('HDEL', S.keys[4], q[1])
    redis.call('HDEL', S.keys[3], q[1])
  end
  return finish(S, 'OK', #users)
end

-- retire: {incarnation, cause}
function operations.retire(S)
  if S.run == '' then return finish(S, 'NO_EPOCH') end
  tick(S)
  retire(S, S.request[1], S.request[2])
  return finish(S, 'OK')
end

-- notify: {kind, target, user, cause, reason}
function operations.notify(S)
  local q = S.request
  if S.run == '' then return finish(S, 'NO_EPOCH') end
  tick(S)
  notice(S, q[1], q[2], q[3], '', q[4], q[5])
  return finish(S, 'OK')
end
