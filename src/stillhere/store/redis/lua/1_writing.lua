-- What a request writes once, at its end, and the log.

-- A command with a list of any length.
local function with_all(command, key, list)
  if #list == 0 then return end
  for first = 1, #list, 1000 do redis.call(command, key, unpack(list, first, math.min(first + 999, #list))) end
end

local function flush_held(S)
  local joined, left = {}, {}
  for user, holds in pairs(S.held) do
    local list = holds and joined or left
    list[#list + 1] = user
  end
  with_all('SADD', S.keys[13], joined)
  with_all('SREM', S.keys[13], left)
  S.held = {}
end

-- Write what changed; the indexes follow the records.
local function flush(S)
  local records, dropped, due_at, not_due, departures, back = {}, {}, {}, {}, {}, {}
  for _, user in ipairs(S.order) do
    local rec = S.records[user]
    local due, away, was = false, false, S.away[user]
    if rec then
      if #rec[HOLDS] > 0 then due = deadline_of(rec) end
      away = departed(rec)
      if S.news[user] then write_timeline(S, user, rec) end
      records[#records + 1] = user
      records[#records + 1] = pack_record(rec)
    else
      dropped[#dropped + 1] = user
    end
    if due ~= (S.due[user] or false) then
      if due then
        due_at[#due_at + 1] = text(due)
        due_at[#due_at + 1] = user
      else
        not_due[#not_due + 1] = user
      end
    end
    if away and was ~= 'there' then
      S.departures = S.departures + 1
      departures[#departures + 1] = string.format('%d', S.departures)
      departures[#departures + 1] = user
    elseif not away and was then
      back[#back + 1] = user
    end
    S.due[user], S.away[user] = due, away
  end
  with_all('HSET', S.keys[6], records)
  with_all('HDEL', S.keys[6], dropped)
  with_all('ZADD', S.keys[7], due_at)
  with_all('ZREM', S.keys[7], not_due)
  for first = 1, #departures, 1000 do
    redis.call('ZADD', S.keys[8], 'NX', unpack(departures, first, math.min(first + 999, #departures)))
  end
  with_all('ZREM', S.keys[8], back)
  local chunks = {}
  for field, chunk in pairs(S.written) do
    chunks[#chunks + 1] = field
    chunks[#chunks + 1] = chunk
  end
  with_all('HDEL', S.keys[12], S.stale)
  with_all('HSET', S.keys[12], chunks)
  flush_held(S)
  S.order, S.touched, S.news, S.written, S.stale = {}, {}, {}, {}, {}
end

local function finish(S, answer, body)
  flush(S)
  if S.ticked then write_meta(S) end
  local head = cmsgpack.pack({ answer, S.epoch, S.seq, S.v, held_until(S), S.v < S.r, S.born })
  return { head, S.events, cmsgpack.pack(body or {}) }
end

local TRIM_EVERY = 16 -- entries

local function log(S, entry)
  S.place = S.place or string.format('%.0f', S.epoch) .. '-%d'
  local key, id = S.keys[11], string.format(S.place, S.seq)
  local done
  if S.seq % TRIM_EVERY == 0 then
    done = redis.pcall('XADD', key, 'MAXLEN', '~', S.log_kept, id, 'e', entry)
  else
    done = redis.pcall('XADD', key, id, 'e', entry)
  end
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
local function happened(S, user, packed)
  S.events[#S.events + 1] = packed
  remember(S, user, packed)
end

local function report(S, user, event)
  if event then happened(S, user, cmsgpack.pack(event)) end
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
