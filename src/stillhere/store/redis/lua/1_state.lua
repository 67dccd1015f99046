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
--      12 tl HASH        user.."\0"..number -> a chunk of the user's timeline; the last entries are in the record
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
local PHASE, SHOWN_AS, SHARES, EPOCH, TOLD, HOLDS, GRACE, MEMBERS, LAST_SEEN, HIDDEN, GONE, OFFLINE_AT, DEPARTURES,
  ENDED, NOTED_AT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

local function max(a, b) return a < b and b or a end

local function text(number)
  return string.format('%.17g', number)
end

local function active(c)
  local ready = c[READY]
  return ready == 'O' or ready == 'L'
end

local function is_active(list)
  for i = 1, #list do if active(list[i]) then return true end end
  return false
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
  for i = 1, #list do
    if list[i][1] == key then return list[i], i end
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
    remember = l[8], known = l[9], kept = l[10], log_kept = string.format('%d', l[11]), late_news = l[12],
    epoch = tonumber(m[1] or 0), seq = tonumber(m[2] or 0), run = m[3] or '', v = tonumber(m[4] or 0),
    seen = m[5] and tonumber(m[5]) or false, h = tonumber(m[6] or 0), r = tonumber(m[7] or 0), wiped = m[8] == '1',
    strange = tonumber(m[9] or 0), departures = tonumber(m[10] or 0), born = tonumber(m[11] or 0),
    events = {}, inherited = {}, ticked = false,
    -- by user: the record, the same as stored, whether it is to be written, its deadline and whether it is away as
    -- stored, news for its timeline, whether the incarnation of the request holds it; by field: chunks of timelines
    records = {}, packed = {}, touched = {}, order = {}, due = {}, away = {}, news = {}, held = {},
    written = {}, stale = {},
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
    S.h = max(S.h, S.v + S.gap_step + S.gap_hold)
    step = math.min(step, S.gap_step)
  end
  if step > 0 then S.v = S.v + step end
end

local function held_until(S) return max(S.h, S.r) end
local function on_hold(S) return S.v < held_until(S) end

local function write_meta(S)
  redis.call('HSET', S.keys[1], 'e', text(S.epoch), 's', text(S.seq), 'run', S.run, 'v', text(S.v), 't', text(S.seen),
    'h', text(S.h), 'r', text(S.r), 'w', S.wiped and '1' or '0', 'strange', S.strange, 'away', S.departures)
end

local PHASES = { [OFF] = true, [ON] = true, [HELD] = true }
local NONE = {}

-- A record, or nil for what is none of ours. What it has beyond TOLD is not written where there is nothing to say, as of
-- most users who are there.
local function load_record(packed)
  local good, rec = pcall(cmsgpack.unpack, packed)
  if not (good and type(rec) == 'table') then return nil end
  local size, shown = #rec, rec[SHOWN_AS]
  if not (PHASES[rec[PHASE]] and type(shown) == 'table' and #shown == S_META and type(rec[SHARES]) == 'table') then
    return nil
  end
  if size == TOLD then
    rec[HOLDS], rec[GRACE], rec[MEMBERS], rec[LAST_SEEN], rec[HIDDEN] = {}, false, {}, false, false
    rec[GONE], rec[OFFLINE_AT], rec[DEPARTURES], rec[ENDED], rec[NOTED_AT] = {}, 0, {}, {}, 0
  elseif size ~= NOTED_AT or type(rec[HOLDS]) ~= 'table' or type(rec[MEMBERS]) ~= 'table' or type(rec[GONE]) ~= 'table'
    or type(rec[DEPARTURES]) ~= 'table' or type(rec[ENDED]) ~= 'table' then
    return nil
  end
  return rec
end

local function pack_record(rec)
  if #rec[HOLDS] + #rec[MEMBERS] + #rec[GONE] + #rec[DEPARTURES] + #rec[ENDED] + rec[OFFLINE_AT] == 0
    and not (rec[GRACE] or rec[LAST_SEEN] or rec[HIDDEN]) then
    return cmsgpack.pack({ rec[PHASE], rec[SHOWN_AS], rec[SHARES], rec[EPOCH], rec[TOLD] })
  end
  return cmsgpack.pack(rec)
end

local function new_record()
  return { OFF, { 'f', 0, 0, false, false, false }, {}, 0, false, {}, false, {}, false, false, {}, 0, {}, {}, 0 }
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
        S.records[user], S.packed[user], S.away[user] = rec, packed, departed(rec)
        if #rec[HOLDS] > 0 then S.due[user] = deadline_of(rec) end
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
