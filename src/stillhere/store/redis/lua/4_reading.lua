-- Those that only read: they change nothing, not even the clock.

local function reading(body)
  return function(S)
    if S.run == '' then return finish(S, 'NO_EPOCH') end
    return finish(S, 'OK', body(S, S.request))
  end
end

local function doubtful(S, rec) return rec[PHASE] ~= OFF and rec[EPOCH] ~= S.epoch end

-- snapshot: {user ...} -> {{shown, doubtful} or false ...}
operations.snapshot = reading(function(S, q)
  local found = {}
  fetch(S, q)
  for _, user in ipairs(q) do
    local rec = S.records[user]
    found[#found + 1] = rec and { rec[SHOWN_AS], doubtful(S, rec) } or false
  end
  return found
end)

-- room: {room} -> {{user, member, doubtful} ...}
operations.room = reading(function(S, q)
  local users, found = {}, {}
  local first = #q[1] + 2
  for _, member in ipairs(redis.call('ZRANGEBYLEX', S.keys[9], '[' .. q[1] .. '\0', '(' .. q[1] .. '\1')) do
    users[#users + 1] = string.sub(member, first)
  end
  fetch(S, users)
  for _, user in ipairs(users) do
    local rec = S.records[user]
    local entry = rec and find(rec[MEMBERS], q[1])
    if entry then found[#found + 1] = { user, entry[2], doubtful(S, rec) } end
  end
  return found
end)

-- rooms: {after, limit} -> {{room, members} ...}
operations.rooms = reading(function(S, q)
  local found = {}
  local from = q[1] == '' and '-' or '(' .. q[1]
  for _, room in ipairs(redis.call('ZRANGEBYLEX', S.keys[10], from, '+', 'LIMIT', 0, q[2])) do
    found[#found + 1] = { room, redis.call('ZLEXCOUNT', S.keys[9], '[' .. room .. '\0', '(' .. room .. '\1') }
  end
  return found
end)

-- record: {user} -> record or false
operations.record = reading(function(S, q)
  fetch(S, q)
  local rec = S.records[q[1]]
  if rec then rec[TOLD] = false end -- it is no text
  return { rec }
end)

-- page: {cursor, skip, limit, pattern, status} -> {cursor or false, skip, {user, record} ...}
operations.page = reading(function(S, q)
  local cursor, skip, found, seen = q[1], q[2], {}, 0
  for _ = 1, 20 do
    local scan = redis.call('HSCAN', S.keys[6], cursor, 'MATCH', q[4], 'COUNT', 100)
    for i = 1 + 2 * skip, #scan[2], 2 do
      local rec = load_record(scan[2][i + 1])
      if rec and rec[SHOWN_AS][VERSION] > 0 and (not q[5] or rec[SHOWN_AS][STATUS] == q[5]) then
        if seen == q[3] then return { cursor, (i - 1) / 2, found } end
        seen = seen + 1
        rec[TOLD] = false
        found[seen] = { scan[2][i], rec }
      end
    end
    cursor, skip = scan[1], 0
    if cursor == '0' then return { false, 0, found } end
    if seen == q[3] then break end
  end
  return { cursor, 0, found }
end)

-- timeline: {user} -> event ...
operations.timeline = reading(function(S, q)
  fetch(S, { q[1] })
  local rec = S.records[q[1]]
  if rec and rec[TOLD] and S.kept > 0 then S.events = read_timeline(S, q[1], rec) end
  return {}
end)

-- While a library is loaded, Redis offers the language without its functions: no pairs, no ipairs.
local function register(names, flags)
  for i = 1, #names do
    local operation = operations[names[i]]
    redis.register_function({
      function_name = '@LIBRARY@_' .. names[i],
      callback = function(keys, args) return operation(begin(keys, args)) end,
      flags = flags,
    })
  end
end

-- A server that is full answers those that write nothing. All others wait together: a sweep that still ran would end
-- leases which a beat could not renew.
register({ 'snapshot', 'room', 'rooms', 'record', 'page', 'timeline' }, { 'no-writes' })
register({ 'hello', 'join', 'beat', 'asserted', 'put', 'sweep', 'reap', 'retire', 'notify' }, {})
