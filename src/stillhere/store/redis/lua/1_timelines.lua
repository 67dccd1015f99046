-- The timeline of a user. The last entries stand one after the other in the record; when they are many, they become a
-- **chunk**, a field of its own. The field TOLD of the record: {number of the first chunk, of the next one, entries in
-- chunks, entries in the record, these, clock, hold}; or the clock alone; or false.
--
-- Of one who has just come, the entries are not written at all: while nothing else happens, all of them follow from the
-- record, save the store clock. So there is a clock where that is so, and `hold` says whether nothing could expire then
-- (1), or nodes were still telling whom they carry (2). With the next change the record as it was stands for them.
local T_FIRST, T_NEXT, T_CHUNKED, T_COUNT, T_TAIL, T_CLOCK, T_HOLD = 1, 2, 3, 4, 5, 6, 7
local CHUNK_ENTRIES, CHUNK_BYTES = 8, 1024

local function remember(S, user, packed)
  if S.kept == 0 then return end
  local news = S.news[user]
  if news then news[#news + 1] = packed else S.news[user] = { packed } end
end

local function hold_now(S) return S.v < S.r and 2 or (S.v < S.h and 1 or 0) end

-- What a node told: see stillhere.core.events.Contributed. Of the flags, 4 says that nobody carried the user before.
local function told_entry(at, incarnation, clock, epoch, flags, changed, endings, leaves, gone, ended_at)
  if not endings then return cmsgpack.pack({ 'd', at, incarnation, clock, epoch, flags, changed }) end
  return cmsgpack.pack({ 'd', at, incarnation, clock, epoch, flags, changed, endings, leaves, gone, ended_at })
end

local function transition_of(user, change, version, at, cause, shown, room, member, count)
  return cmsgpack.pack({ 't', user, change, version, at, cause, shown, room, member, count })
end

local function active_count(rec)
  local n = 0
  for _, share in ipairs(rec[SHARES]) do
    for _, c in ipairs(share[3]) do if active(c) then n = n + 1 end end
  end
  return n
end

-- The entries of one who has just come, from the record: what the node told, and what was published.
local function entries_of_arrival(user, rec, found)
  local share, shown, told = rec[SHARES][1], rec[SHOWN_AS], rec[TOLD]
  local at, clock, hold = shown[CHANGED], told, 0
  if type(told) == 'table' then clock, hold = told[T_CLOCK], told[T_HOLD] end
  found[#found + 1] = told_entry(at, share[1], clock, rec[EPOCH], 4 + hold, share[3])
  found[#found + 1] = transition_of(user, 'N', shown[VERSION], at, 'connection_open', shown, false, false,
    active_count(rec))
  for _, entry in ipairs(rec[MEMBERS] or NONE) do
    local member = entry[2]
    found[#found + 1] = transition_of(user, 'J', member[2], at, 'connection_open', false, entry[1], member, 0)
  end
end

local function has_just_come(rec)
  local told = rec[TOLD]
  return type(told) == 'number' or (told and told[T_CLOCK] and true)
end

local function chunk_field(user, number) return user .. '\0' .. string.format('%.0f', number) end

local function drop_timeline(S, user, rec)
  local told = rec[TOLD]
  S.news[user], rec[TOLD] = nil, false
  if type(told) ~= 'table' then return end
  for number = told[T_FIRST], told[T_NEXT] - 1 do S.stale[#S.stale + 1] = chunk_field(user, number) end
end

-- Before a record changes: the arrival is written, as {phase, shown, shares, epoch, told, holds, grace, members}.
local function write_arrival(S, user, rec)
  local told = rec[TOLD]
  if not told then return end
  if S.kept == 0 then return drop_timeline(S, user, rec) end
  if not has_just_come(rec) then return end
  local packed = type(told) == 'number' and #rec[MEMBERS] == 0 and not S.touched[user] and S.packed[user]
  if not packed then
    local clock = type(told) == 'number' and told or { 0, 0, 0, 0, '', told[T_CLOCK], told[T_HOLD] }
    packed = cmsgpack.pack({ ON, rec[SHOWN_AS], rec[SHARES], rec[EPOCH], clock, NONE, false, rec[MEMBERS] })
  end
  remember(S, user, packed)
  local news = S.news[user]
  news[packed] = 2 + #rec[MEMBERS] -- so many entries
  news.more = (news.more or 0) + 1 + #rec[MEMBERS]
  if type(told) == 'number' then rec[TOLD] = false else told[T_CLOCK] = false end
end

-- Entries that stand one after the other.
local function split_entries(user, joined, found)
  local at = 0
  while at >= 0 and at < #joined do
    local next_at, entry = cmsgpack.unpack_one(joined, at)
    if entry[1] == ON then
      entries_of_arrival(user, entry, found)
    else
      found[#found + 1] = string.sub(joined, at + 1, next_at >= 0 and next_at or -1)
    end
    at = next_at
  end
end

-- The oldest chunks go, as soon as what is left is as much as is to be kept. A chunk's first byte says how many entries
-- it has.
local function cut_timeline(S, user, told)
  while told[T_FIRST] < told[T_NEXT] do
    local field = chunk_field(user, told[T_FIRST])
    local chunk = S.written[field] or redis.call('HGET', S.keys[12], field)
    local count = chunk and string.byte(chunk) or CHUNK_ENTRIES
    if told[T_CHUNKED] - count < S.kept then return end
    S.stale[#S.stale + 1], S.written[field] = field, nil
    told[T_FIRST], told[T_CHUNKED] = told[T_FIRST] + 1, math.max(0, told[T_CHUNKED] - count)
  end
end

local function new_chunk(S, user, told, count, entries)
  S.written[chunk_field(user, told[T_NEXT])] = string.char(math.min(count, 255)) .. entries
  told[T_NEXT], told[T_CHUNKED] = told[T_NEXT] + 1, told[T_CHUNKED] + math.min(count, 255)
end

local function write_timeline(S, user, rec)
  local news, told = S.news[user], rec[TOLD]
  if type(told) ~= 'table' then
    told = { 0, 0, 0, 0, '', told, 0 }
    rec[TOLD] = told
  end
  local count, tail = told[T_COUNT] + #news + (news.more or 0), told[T_TAIL] .. table.concat(news)
  if count >= CHUNK_ENTRIES or #tail > CHUNK_BYTES then
    count, tail = told[T_COUNT], told[T_TAIL]
    for i = 1, #news do
      count, tail = count + (news[news[i]] or 1), tail .. news[i]
      if count >= CHUNK_ENTRIES or #tail > CHUNK_BYTES then
        new_chunk(S, user, told, count, tail)
        count, tail = 0, ''
      end
    end
    cut_timeline(S, user, told)
  end
  told[T_COUNT], told[T_TAIL] = count, tail
end

-- The last entries, as many as are to be kept.
local function read_timeline(S, user, rec)
  local told, found = rec[TOLD], {}
  if type(told) == 'table' then
    for first = told[T_FIRST], told[T_NEXT] - 1, 500 do
      local fields = {}
      for number = first, math.min(first + 499, told[T_NEXT] - 1) do fields[#fields + 1] = chunk_field(user, number) end
      for _, chunk in ipairs(redis.call('HMGET', S.keys[12], unpack(fields))) do
        if chunk then pcall(split_entries, user, string.sub(chunk, 2), found) end
      end
    end
    split_entries(user, told[T_TAIL], found)
  end
  if has_just_come(rec) then entries_of_arrival(user, rec, found) end
  local kept = {}
  for i = math.max(1, #found - S.kept + 1), #found do kept[#kept + 1] = found[i] end
  return kept
end

local function same_but_ready(a, b)
  for i = 1, #a do
    if a[i] ~= b[i] and i ~= READY and not same(a[i], b[i]) then return false end
  end
  return #a == #b
end

-- For the timeline: what is new in a contribution; see stillhere.core.events.Contributed.
local function contributed(S, user, rec, incarnation, told, former, before, list, ended_at, fresh, again)
  if S.kept == 0 then return end
  local changed, endings, gone, there = {}, told[4], {}, {}
  for i = 1, #list do
    local c = list[i]
    there[c[ID]] = true
    if not same(before[c[ID]], c) then changed[#changed + 1] = c end
  end
  for i = 1, #endings do
    local e = endings[i]
    local last, was = e[8], before[e[1]]
    there[e[1]] = true
    if last and was and same_but_ready(last, was) then e[8] = false end
  end
  for i = 1, #former do
    local id = former[i][ID]
    if not there[id] then gone[#gone + 1] = id end
  end
  if #changed + #endings + #gone + #told[5] == 0 and not again then return end
  local flags = hold_now(S) + (fresh and 4 or 0)
  remember(S, user, told_entry(S.now, incarnation, S.v, S.epoch, flags, changed, endings, told[5], gone,
    ended_at or false))
end

-- The end of a merge of one who has just come: `first` is the place of what was told, among the news.
local function arrived_anew(S, user, rec, incarnation, list, first, before)
  local news = S.news[user]
  if not news then return end
  if first > 1 or #news ~= 2 + #rec[MEMBERS] or rec[SHOWN_AS][VERSION] <= before then
    news[first] = told_entry(S.now, incarnation, S.v, S.epoch, 4 + hold_now(S), list)
    return
  end
  -- nothing but what follows from the record
  S.news[user] = nil
  local hold, told = hold_now(S), rec[TOLD]
  if told then
    told[T_CLOCK], told[T_HOLD] = S.v, hold
  else
    rec[TOLD] = hold == 0 and S.v or { 0, 0, 0, 0, '', S.v, hold }
  end
end
