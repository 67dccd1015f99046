-- The rules of stillhere.core.ledger, as a function library: one partition, every operation atomic.
--
-- KEYS  1 meta HASH      e epoch, s place of the log, run, v store clock, t time seen, h hold until, r recover until,
--                       w wiped, away: departures so far,
--                       born: the epoch in which the data began,
--                       strange: records of others that were passed over, stamp: schema and number of partitions
--       2 lease ZSET     incarnation -> deadline on the store clock
--       3 nodes HASH     incarnation -> {channel, heard, process, about}
--       4 dead HASH      incarnation -> cause of its connections' end
--       5 await SET      "a"..process awaited in a recovery, "s"..process that has told all it carries
--       6 users HASH     user -> record
--       7 due ZSET       user -> earliest deadline of a window
--       8 away ZSET      user who is offline and known -> a number that grows with each departure
--       9 rooms ZSET     room.."\0"..user, all at score 0
--      10 names ZSET     room that has members, all at score 0
--      11 log STREAM     <epoch>-<place>: transitions and notices
--      12 tl HASH        user.."\0"..(n % kept) -> event
--      13 held SET       users that the incarnation of the request holds
-- ARGV  1 limits, 2 request; both MessagePack. The answer: {head, events, body}.
--
-- Lists stand for Python's tuples and ordered dictionaries, `false` for None. What an application put into metadata is
-- JSON text that is compared and never read.

local OFF, ON, HELD = 'F', 'N', 'H'
local FINAL = { bye = true, kicked = true, revoked = true, superseded = true }
local LEAVES = { bye = true, kicked = true, revoked = true }
local CAUSES = { bye = true, kicked = true, revoked = true, superseded = true, client_close = true, going_away = true,
  page_hidden = true, abnormal = true, heartbeat_lost = true, expired = true, slow_consumer = true,
  protocol_error = true, node_drain = true, node_lost = true }
local RANK = { a = 3, b = 2, w = 1 }
local SHOWN = { a = 'o', b = 'b', w = 'w' }
local HOLDS_MAX, GONE_MAX, DEPARTURES_MAX, ENDED_MAX, FORGET_MOST = 64, 16, 8, 8, 1000

-- fields of a connection, a hold, what is shown, a record
local ID, SESSION, TAB, READY, OPENED, AVAILABILITY, META, INFO, ROOMS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local H_CONNECTION, H_CAUSE, H_SINCE, H_WINDOW, H_DEADLINE, H_LATEST, H_UNTOLD = 1, 2, 3, 4, 5, 6, 7
local STATUS, VERSION, CHANGED, SEEN, S_INFO, S_META = 1, 2, 3, 4, 5, 6
local PHASE, SHOWN_AS, SHARES, HOLDS, GRACE, MEMBERS, LAST_SEEN, HIDDEN, GONE, OFFLINE_AT, DEPARTURES, EPOCH, ENDED,
  TOLD = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14

local function text(number)
  return string.format('%.17g', number)
end

local function active(c)
  return c[READY] == 'O' or c[READY] == 'L'
end

local function stable_sort(list, before)
  for i = 2, #list do
    local x, j = list[i], i - 1
    while j >= 1 and before(x, list[j]) do
      list[j + 1] = list[j]
      j = j - 1
    end
    list[j + 1] = x
  end
  return list
end

local function opened_before(a, b)
  return a[OPENED] < b[OPENED] or (a[OPENED] == b[OPENED] and a[ID] < b[ID])
end

local function find(list, key)
  for i, item in ipairs(list) do
    if item[1] == key then return item, i end
  end
  return nil, nil
end

local function same(a, b) -- two values made of lists and plain values
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  if #a ~= #b then return false end
  for i = 1, #a do
    if not same(a[i], b[i]) then return false end
  end
  return true
end

local function copy(list)
  local new = {}
  for i = 1, #list do new[i] = list[i] end
  return new
end

-- One request: what it reads once and writes once.
local function begin(keys, args)
  local l = cmsgpack.unpack(args[1])
  local m = redis.call('HMGET', keys[1], 'e', 's', 'run', 'v', 't', 'h', 'r', 'w', 'strange', 'away', 'born')
  local now = l[1]
  if now == 0 then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
  end
  return {
    keys = keys, request = cmsgpack.unpack(args[2]), now = now,
    gap_limit = l[2], gap_back = l[3], gap_step = l[4], gap_hold = l[5], recovery = l[6], horizon = l[7],
    remember = l[8], known = l[9], kept = l[10], log_kept = l[11],
    epoch = tonumber(m[1] or 0), seq = tonumber(m[2] or 0), run = m[3] or '', v = tonumber(m[4] or 0),
    seen = m[5] and tonumber(m[5]) or false, h = tonumber(m[6] or 0), r = tonumber(m[7] or 0), wiped = m[8] == '1',
    strange = tonumber(m[9] or 0), departures = tonumber(m[10] or 0), born = tonumber(m[11] or 0),
    events = {}, inherited = {}, ticked = false,
    -- by user: the record, whether it is to be written, its deadline and whether it is away as stored, news for its
    -- timeline, whether the incarnation of the request holds it
    records = {}, touched = {}, order = {}, due = {}, away = {}, rings = {}, held = {},
  }
end

-- R1: the store clock is monotonic and clamped; see stillhere.core.clock.
local function tick(S)
  local step = 0
  if S.seen then step = S.now - S.seen end
  S.ticked = true
  if step < 0 and step >= -S.gap_back then return end
  S.seen = S.now
  if step > S.gap_limit or step < -S.gap_back then
    S.h = math.max(S.h, S.v + S.gap_step + S.gap_hold)
    step = math.min(step, S.gap_step)
  end
  if step > 0 then S.v = S.v + step end
end

local function held_until(S) return math.max(S.h, S.r) end
local function on_hold(S) return S.v < held_until(S) end

local function write_meta(S)
  redis.call('HSET', S.keys[1], 'e', text(S.epoch), 's', text(S.seq), 'run', S.run, 'v', text(S.v), 't', text(S.seen),
    'h', text(S.h), 'r', text(S.r), 'w', S.wiped and '1' or '0', 'strange', S.strange, 'away', S.departures)
end

local PHASES = { [OFF] = true, [ON] = true, [HELD] = true }

-- A record, or nil for what is none of ours.
local function load_record(packed)
  local good, rec = pcall(cmsgpack.unpack, packed)
  if not (good and type(rec) == 'table' and #rec == TOLD and PHASES[rec[PHASE]]) then return nil end
  for _, field in ipairs({ SHOWN_AS, SHARES, HOLDS, MEMBERS, GONE, DEPARTURES, ENDED }) do
    if type(rec[field]) ~= 'table' then return nil end
  end
  return #rec[SHOWN_AS] == S_META and rec or nil
end

local function new_record()
  return { OFF, { 'f', 0, 0, false, false, false }, {}, {}, false, {}, false, false, {}, 0, {}, 0, {}, false }
end

local function deadline_of(rec)
  local due = false
  for _, hold in ipairs(rec[HOLDS]) do
    if not due or hold[H_DEADLINE] < due then due = hold[H_DEADLINE] end
  end
  return due
end

local function departed(rec) return rec[PHASE] == OFF and #rec[SHARES] == 0 and 'there' or false end

-- Records of all these users with one read. What another program wrote counts as absent, and is counted.
local function fetch(S, users)
  local missing = {}
  for _, user in ipairs(users) do
    if S.records[user] == nil then
      S.records[user] = false
      missing[#missing + 1] = user
    end
  end
  for first = 1, #missing, 500 do
    local last = math.min(first + 499, #missing)
    for i, packed in ipairs(redis.call('HMGET', S.keys[6], unpack(missing, first, last))) do
      local user = missing[first + i - 1]
      local rec = packed and load_record(packed)
      if rec then
        S.records[user], S.due[user], S.away[user] = rec, deadline_of(rec), departed(rec)
      elseif packed then
        S.strange, S.due[user], S.away[user] = S.strange + 1, 'unsure', 'unsure'
      end
    end
  end
end

local function touch(S, user)
  if not S.touched[user] then
    S.touched[user] = true
    S.order[#S.order + 1] = user
  end
end

-- The timeline of a user is a ring of fields; its record has {events ever, size of the ring}, or false.
local function ring_of(user, told)
  local fields = {}
  for n = math.max(0, told[1] - told[2]), told[1] - 1 do fields[#fields + 1] = user .. '\0' .. (n % told[2]) end
  return fields
end

local function read_ring(S, user, told)
  local fields, found = ring_of(user, told), {}
  for first = 1, #fields, 500 do
    for _, packed in ipairs(redis.call('HMGET', S.keys[12], unpack(fields, first, math.min(first + 499, #fields)))) do
      if packed then found[#found + 1] = packed end
    end
  end
  return found
end

local function drop_ring(S, user, rec)
  S.rings[user] = nil
  local fields = rec[TOLD] and ring_of(user, rec[TOLD]) or {}
  for first = 1, #fields, 500 do
    redis.call('HDEL', S.keys[12], unpack(fields, first, math.min(first + 499, #fields)))
  end
  rec[TOLD] = false
end

local function add_to_ring(S, user, rec, packed)
  local rows, told = S.rings[user] or {}, rec[TOLD]
  rows[#rows + 1] = user .. '\0' .. (told[1] % told[2])
  rows[#rows + 1] = packed
  told[1] = told[1] + 1
  S.rings[user] = rows
end

local function remember(S, user, rec, packed)
  local told = rec[TOLD]
  if told and told[2] ~= S.kept then -- the setting was changed
    local old = S.kept > 0 and read_ring(S, user, told) or {}
    drop_ring(S, user, rec)
    rec[TOLD] = { 0, S.kept }
    for i = math.max(1, #old - S.kept + 1), #old do add_to_ring(S, user, rec, old[i]) end
  end
  if S.kept == 0 then
    rec[TOLD] = false
    return
  end
  rec[TOLD] = rec[TOLD] or { 0, S.kept }
  add_to_ring(S, user, rec, packed)
end

local function add_row(S, key, rows, field, value)
  rows[#rows + 1] = field
  rows[#rows + 1] = value
  if #rows < 400 then return rows end
  redis.call('HSET', key, unpack(rows))
  return {}
end

local function flush_held(S)
  local joined, left = {}, {}
  for user, holds in pairs(S.held) do
    local list = holds and joined or left
    list[#list + 1] = user
  end
  for first = 1, #joined, 500 do
    redis.call('SADD', S.keys[13], unpack(joined, first, math.min(first + 499, #joined)))
  end
  for first = 1, #left, 500 do
    redis.call('SREM', S.keys[13], unpack(left, first, math.min(first + 499, #left)))
  end
  S.held = {}
end

-- Write what changed; the indexes follow the records.
local function flush(S)
  local records, rings = {}, {}
  for _, user in ipairs(S.order) do
    local rec = S.records[user]
    local due, away = rec and deadline_of(rec), rec and departed(rec)
    if due ~= (S.due[user] or false) then
      if due then redis.call('ZADD', S.keys[7], due, user) else redis.call('ZREM', S.keys[7], user) end
    end
    if away and S.away[user] ~= 'there' then
      S.departures = S.departures + 1
      redis.call('ZADD', S.keys[8], 'NX', S.departures, user)
    elseif not away and S.away[user] then
      redis.call('ZREM', S.keys[8], user)
    end
    S.due[user], S.away[user] = due, away
    if rec then
      records = add_row(S, S.keys[6], records, user, cmsgpack.pack(rec))
    else
      redis.call('HDEL', S.keys[6], user)
    end
    local rows = S.rings[user] or {}
    for i = 1, #rows, 2 do rings = add_row(S, S.keys[12], rings, rows[i], rows[i + 1]) end
  end
  if #records > 0 then redis.call('HSET', S.keys[6], unpack(records)) end
  if #rings > 0 then redis.call('HSET', S.keys[12], unpack(rings)) end
  flush_held(S)
  S.order, S.touched, S.rings = {}, {}, {}
end

local function finish(S, answer, body)
  flush(S)
  if S.ticked then write_meta(S) end
  local head = cmsgpack.pack({ answer, S.epoch, S.seq, S.v, held_until(S), S.v < S.r, S.born })
  return { head, S.events, cmsgpack.pack(body or {}) }
end

local function log(S, entry)
  local key, id = S.keys[11], string.format('%.0f-%.0f', S.epoch, S.seq)
  local done = redis.pcall('XADD', key, 'MAXLEN', '~', S.log_kept, id, 'e', entry)
  if type(done) ~= 'table' or not done.err then return end
  if not string.find(done.err, 'equal or smaller', 1, true) then error(done.err, 0) end
  -- Another program wrote at a place that is ours. The log begins anew: readers see a gap and take fresh snapshots.
  redis.call('DEL', key)
  redis.call('XADD', key, id, 'e', entry)
end

local function next_version(S)
  S.seq = S.seq + 1
  return S.seq
end

-- An event is packed once: for the log, the timeline and the answer.
local function report(S, user, rec, event)
  if not event then return end
  local packed = cmsgpack.pack(event)
  S.events[#S.events + 1] = packed
  if event[1] == 't' then log(S, packed) end
  remember(S, user, rec, packed)
end

local function notice(S, kind, target, user, connection, cause, reason)
  local version = next_version(S)
  log(S, cmsgpack.pack({ 'n', kind, version, S.now, target, user, connection, cause, reason }))
end

local function node_of(S, incarnation)
  local packed = redis.call('HGET', S.keys[3], incarnation)
  local good, node = pcall(cmsgpack.unpack, packed or '')
  return packed and good and type(node) == 'table' and #node == 4 and node or nil
end

local function save_node(S, incarnation, node)
  redis.call('HSET', S.keys[3], incarnation, cmsgpack.pack(node))
end

-- R2, the fence: zombies, and requests of an older connection, change nothing.
local function admit(S, incarnation, channel)
  if S.run == '' then return 'NO_EPOCH' end
  tick(S)
  local node = node_of(S, incarnation)
  if not node or not redis.call('ZSCORE', S.keys[2], incarnation) or node[1] > channel then return 'FENCED' end
  node[2] = S.now
  return 'OK', node
end
