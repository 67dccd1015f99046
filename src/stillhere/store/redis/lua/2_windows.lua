-- stillhere.core.windows, show and publish: what an ending opens, what a departure ends, what is shown.

local function sole(rec) -- the connection of one who has just one
  local shares = rec[SHARES]
  if #shares ~= 1 or #shares[1][3] ~= 1 then return nil end
  return shares[1][3][1]
end

local function connections(rec) -- of all nodes, oldest first: pairs of incarnation and connection
  local found = {}
  for _, share in ipairs(rec[SHARES]) do
    for _, c in ipairs(share[3]) do found[#found + 1] = { share[1], c } end
  end
  if #found < 2 then return found end
  return stable_sort(found, function(a, b) return opened_before(a[2], b[2]) end)
end

local function hold_of(rec, tab)
  for i, hold in ipairs(rec[HOLDS]) do
    if hold[H_CONNECTION][TAB] == tab then return hold, i end
  end
  return nil, nil
end

local function room_at(rooms, room) -- of a flat list room, meta, room, meta ...
  if rooms then
    for i = 1, #rooms, 2 do if rooms[i] == room then return i end end
  end
  return nil
end

local function with(c, field, value)
  local new = copy(c)
  new[field] = value
  return new
end

local function ended_of(hold) return max(hold[H_LATEST], hold[H_DEADLINE] - hold[H_WINDOW]) end

-- Whether the end of the connection is known only from the loss of its node, which may tell of it later.
local function lost(hold) return hold[H_UNTOLD] or hold[H_CAUSE] == 'node_lost' end

-- A window that is none of its own any more: told again, its end opens no other. What a lost node tells later is news.
local function note_ended(S, rec, hold)
  if lost(hold) then return end
  if S.v - rec[NOTED_AT] >= S.late_news then rec[ENDED] = {} end
  local list = rec[ENDED]
  rec[NOTED_AT] = S.v
  list[#list + 1] = hold[H_CONNECTION][ID]
  if #list > ENDED_MAX then table.remove(list, 1) end
end

local function put_hold(S, rec, hold)
  local tab = hold[H_CONNECTION][TAB]
  local pending, at = hold_of(rec, tab)
  if pending then
    local c = hold[H_CONNECTION]
    if pending[H_CONNECTION][ID] ~= c[ID] then note_ended(S, rec, pending) end
    local old = pending[H_CONNECTION][ROOMS]
    if old and #old > 0 then
      local rooms, new = copy(old), c[ROOMS] or {}
      for i = 1, #new, 2 do
        local place = room_at(rooms, new[i]) or #rooms + 1
        rooms[place], rooms[place + 1] = new[i], new[i + 1]
      end
      c = with(c, ROOMS, rooms)
    end
    local longer = with(pending[H_DEADLINE] > hold[H_DEADLINE] and pending or hold, H_CONNECTION, c)
    longer[H_LATEST] = max(ended_of(pending), ended_of(hold))
    longer[H_UNTOLD] = lost(hold) and longer[H_CAUSE] ~= 'node_lost' or nil
    rec[HOLDS][at] = longer
    return
  end
  local holds = rec[HOLDS]
  holds[#holds + 1] = hold
  if #holds > HOLDS_MAX then
    local least = 1
    for i = 2, #holds do if holds[i][H_DEADLINE] < holds[least][H_DEADLINE] then least = i end end
    table.remove(holds, least)
  end
end

-- Not for another tab whose node was lost: nobody closed that one, and it may be open on a node that is cut off.
local function speaks_for(everything, by_session, by_tab, session, tab, cause)
  return everything or tab == by_tab or (session == by_session and cause ~= 'node_lost')
end

-- ending: {connection, session, tab, cause, window, ago, code, last}
local function depart(S, rec, e, since)
  local ended, everything = S.v - e[6], e[4] ~= 'bye'
  local list = {}
  for _, d in ipairs(rec[DEPARTURES]) do
    if S.v - d[5] < S.late_news then list[#list + 1] = d end
  end
  rec[DEPARTURES] = list
  list[#list + 1] = { e[2], e[3], everything, since, ended }
  if #list > DEPARTURES_MAX then table.remove(list, 1) end
  if #rec[HOLDS] == 0 and #rec[GONE] == 0 then return end
  local holds, gone = {}, {}
  for _, h in ipairs(rec[HOLDS]) do
    local c = h[H_CONNECTION]
    if not (ended_of(h) <= ended and speaks_for(everything, e[2], e[3], c[SESSION], c[TAB], h[H_CAUSE])) then
      holds[#holds + 1] = h
    elseif on_hold(S) then
      holds[#holds + 1] = { c, e[4], h[H_SINCE], 0, ended, 0 }
    else
      note_ended(S, rec, h)
    end
  end
  for _, g in ipairs(rec[GONE]) do
    local mine = speaks_for(everything, e[2], e[3], g[2], g[1], g[3])
    if not (g[4] <= since and mine) then gone[#gone + 1] = g end
  end
  rec[HOLDS], rec[GONE] = holds, gone
end

local function end_connection(S, rec, e, was, since, present, carried)
  local cause = e[4]
  local pending = hold_of(rec, e[3])
  if not carried and not FINAL[cause] then
    for _, id in ipairs(rec[ENDED]) do -- told again: a part of a later window, or ended with a goodbye
      if id == e[1] then return cause end
    end
  end
  local news = pending and lost(pending) and cause ~= 'node_lost'
  if pending and pending[H_CONNECTION][ID] == e[1] and not (carried or FINAL[cause] or news) then
    put_hold(S, rec, was and with(pending, H_CONNECTION, was) or pending) -- told again: stamped when it was told first
    return cause
  end
  if LEAVES[cause] then depart(S, rec, e, since) end
  if cause ~= 'superseded' and was then rec[LAST_SEEN] = max(rec[LAST_SEEN] or 0, since) end
  local ended = S.v - e[6]
  local covered = FINAL[cause]
  -- of an end before a goodbye another node may tell after it
  for _, d in ipairs(covered and NONE or rec[DEPARTURES]) do
    covered = covered or since <= d[4] and ended < d[5] and speaks_for(d[3], d[1], d[2], e[2], e[3], cause)
  end
  if covered then
    -- nobody goes while nothing expires, either: a node may not have told yet of another connection that is open
    if on_hold(S) and present and was and (cause ~= 'superseded' or not pending) then
      put_hold(S, rec, { was, cause, since, 0, ended, 0 })
    end
    return cause
  end
  local gone = {}
  for _, g in ipairs(rec[GONE]) do if g[1] ~= e[3] then gone[#gone + 1] = g end end
  while #gone > GONE_MAX - 1 do table.remove(gone, 1) end
  gone[#gone + 1] = { e[3], e[2], cause, since, e[5] }
  rec[GONE] = gone
  local deadline = S.v + e[5] - e[6]
  -- while nothing expires, nobody is judged by news that arrives in any order
  local open = deadline > S.v or on_hold(S)
  if open and present and was then put_hold(S, rec, { was, cause, since, e[5], deadline, 0 }) end
  return cause
end

-- What tabs left behind in one contribution: a list of {tab, connection, until}.
local function left_end(left, e, was, since)
  if LEAVES[e[4]] then
    if #left == 0 then return end
    local everything = e[4] ~= 'bye'
    for i = #left, 1, -1 do
      if everything or left[i][2][SESSION] == e[2] or left[i][1] == e[3] then table.remove(left, i) end
    end
  elseif was then
    local _, at = find(left, e[3])
    left[at or #left + 1] = { e[3], was, e[4] == 'superseded' and math.huge or since + e[5] }
  end
end

local function forget_room(rec, leave) -- {tab, room}
  local hold, at = hold_of(rec, leave[1])
  local place = hold and room_at(hold[H_CONNECTION][ROOMS], leave[2])
  if not place then return end
  local rooms = copy(hold[H_CONNECTION][ROOMS])
  table.remove(rooms, place)
  table.remove(rooms, place)
  rec[HOLDS][at] = with(hold, H_CONNECTION, with(hold[H_CONNECTION], ROOMS, rooms))
end

local function note_return(S, user, rec, c)
  local back
  for _, g in ipairs(rec[GONE]) do if g[1] == c[TAB] then back = g end end
  if not back then
    for _, g in ipairs(rec[GONE]) do if g[2] == c[SESSION] then back = g end end
  end
  if not back then return nil end
  local gone = {}
  for _, g in ipairs(rec[GONE]) do if g ~= back then gone[#gone + 1] = g end end
  rec[GONE] = gone
  local gap = max(0, S.now - back[4])
  if gap > back[5] + S.horizon then return nil end
  local wrong = rec[PHASE] == OFF and S.now - rec[OFFLINE_AT] <= S.horizon
  if wrong then rec[OFFLINE_AT] = 0 end -- each OFFLINE counts once, though several tabs come back at once
  return { 'r', user, S.now, back[1], back[2], back[3], gap, wrong, back[5] }
end

local function enter_window(S, user, rec, cause)
  local grace, longest = rec[GRACE], nil
  for _, h in ipairs(rec[HOLDS]) do
    if not longest or h[H_DEADLINE] > longest[H_DEADLINE] then longest = h end
  end
  if longest then
    rec[GRACE] = { longest[H_CAUSE], longest[H_SINCE], longest[H_WINDOW], longest[H_DEADLINE] }
    if not grace then
      return { 's', user, S.now, longest[H_CAUSE], longest[H_WINDOW], longest[H_SINCE] }
    end
  elseif not grace then -- a departure, or a window of 0, while an upgrade is in flight
    rec[GRACE] = { cause and CAUSES[cause] and cause or 'abnormal', S.now, 0, S.v }
  end
  return nil
end

local function leave_window(S, user, rec, cause)
  local grace = rec[GRACE]
  rec[GRACE] = false
  local seen = rec[LAST_SEEN]
  if not seen or seen == 0 then seen = S.now end
  local since = max(0, S.now - seen)
  if rec[PHASE] == ON then
    return cause or 'connection_open', { 'c', user, S.now, grace[1], since, 'connection_open' }
  elseif cause and FINAL[cause] then
    return cause, { 'c', user, S.now, grace[1], since, cause }
  end
  return grace[1], grace[3] > 0 and { 'x', user, S.now, grace[1], since } or nil
end

-- The connections that count for what is shown, oldest first: tabs in their window, then active ones.
local function counted(rec)
  local one = #rec[HOLDS] == 0 and sole(rec)
  if one then return active(one) and { one } or {} end
  local act, tabs = {}, {}
  for _, pair in ipairs(connections(rec)) do
    if active(pair[2]) then
      act[#act + 1] = pair[2]
      tabs[pair[2][TAB]] = true
    end
  end
  if #rec[HOLDS] == 0 then return act end
  local held = {}
  for _, h in ipairs(rec[HOLDS]) do
    if not tabs[h[H_CONNECTION][TAB]] then held[#held + 1] = h[H_CONNECTION] end
  end
  stable_sort(held, opened_before)
  for _, c in ipairs(act) do held[#held + 1] = c end
  return held
end

local function status_of(counting)
  local best
  for _, c in ipairs(counting) do
    local stated = c[AVAILABILITY] or 'a'
    if stated == 'i' then return 'f' end
    if not best or RANK[stated] > RANK[best] then best = stated end
  end
  return best and SHOWN[best] or 'o'
end

local function meta_of(counting)
  local one, many
  for _, c in ipairs(counting) do
    if c[META] and #c[META] > 0 then
      if one then many = true end
      one = c[META]
    end
  end
  if not one then return false end
  if not many then return one end
  local merged, keys = {}, {}
  for _, c in ipairs(counting) do
    local meta = c[META] or {}
    for i = 1, #meta, 2 do
      if merged[meta[i]] == nil then keys[#keys + 1] = meta[i] end
      merged[meta[i]] = meta[i + 1]
    end
  end
  table.sort(keys)
  local flat = {}
  for _, key in ipairs(keys) do
    flat[#flat + 1] = key
    flat[#flat + 1] = merged[key]
  end
  return flat
end

local function in_no_room(rec) -- the plain case, without lists
  for _, h in ipairs(rec[HOLDS]) do if h[H_CONNECTION][ROOMS] then return false end end
  for _, share in ipairs(rec[SHARES]) do
    for _, c in ipairs(share[3]) do if c[ROOMS] then return false end end
  end
  return true
end

-- Rooms in order, each with its connections: {room, {connection, meta}, {connection, meta} ...}
local function rooms_of(rec)
  local there = {}
  local function add(room, c, meta, unless_tab)
    local entry = find(there, room)
    if entry and unless_tab then
      for i = 2, #entry do if entry[i][1][TAB] == c[TAB] then return end end
    end
    if not entry then
      entry = { room }
      there[#there + 1] = entry
    end
    entry[#entry + 1] = { c, meta }
  end
  for _, pair in ipairs(connections(rec)) do
    local c = pair[2]
    if c[ROOMS] and active(c) then
      for i = 1, #c[ROOMS], 2 do add(c[ROOMS][i], c, c[ROOMS][i + 1], false) end
    end
  end
  for _, h in ipairs(rec[HOLDS]) do
    local c = h[H_CONNECTION]
    if c[ROOMS] then
      for i = 1, #c[ROOMS], 2 do add(c[ROOMS][i], c, c[ROOMS][i + 1], true) end
    end
  end
  local found = {}
  for _, entry in ipairs(there) do
    local cs, metas = {}, {}
    for i = 2, #entry do cs[#cs + 1] = entry[i] end
    stable_sort(cs, function(a, b) return opened_before(a[1], b[1]) end)
    for _, pair in ipairs(cs) do
      metas[#metas + 1] = pair[1][ID]
      metas[#metas + 1] = pair[2]
    end
    found[#found + 1] = { entry[1], metas }
  end
  return found
end

local function transition(S, user, change, version, cause, shown, room, member, count)
  local packed = transition_of(user, change, version, S.now, cause, shown, room, member, count)
  log(S, packed)
  happened(S, user, packed)
end

local function publish_rooms(S, user, rec, cause, again)
  local status, info = rec[SHOWN_AS][STATUS], rec[SHOWN_AS][S_INFO]
  local members = rec[MEMBERS] -- a list of {room, member}
  if #members == 0 and (status == 'f' or in_no_room(rec)) then return end
  local there = status == 'f' and {} or rooms_of(rec)
  if #there == 0 and status ~= 'f' and #members > 0 and #counted(rec) == 0 then return end
  local staying = {}
  for _, entry in ipairs(members) do
    if find(there, entry[1]) then
      staying[#staying + 1] = entry
    else
      redis.call('ZREM', S.keys[9], entry[1] .. '\0' .. user)
      if redis.call('ZLEXCOUNT', S.keys[9], '[' .. entry[1] .. '\0', '(' .. entry[1] .. '\1') == 0 then
        redis.call('ZREM', S.keys[10], entry[1])
      end
      transition(S, user, 'L', next_version(S), cause, false, entry[1], false, 0)
    end
  end
  rec[MEMBERS] = staying
  for _, room in ipairs(there) do
    local entry = find(staying, room[1])
    local old = entry and entry[2]
    if not (old and not again and old[1] == status and old[4] == info and same(old[5], room[2])) then
      local member = { status, next_version(S), old and old[3] or S.now, info, room[2] }
      if old then
        entry[2] = member
      else
        staying[#staying + 1] = { room[1], member }
        redis.call('ZADD', S.keys[9], 0, room[1] .. '\0' .. user)
        redis.call('ZADD', S.keys[10], 0, room[1])
      end
      transition(S, user, old and 'M' or 'J', member[2], cause, false, room[1], member, 0)
    end
  end
end

local function publish(S, user, rec, cause, again)
  local old, new, hidden = rec[SHOWN_AS], nil, false
  if rec[PHASE] == OFF then
    new = { 'f', old[VERSION], old[CHANGED], rec[HIDDEN] or rec[LAST_SEEN], old[S_INFO], false }
  else
    local counting = counted(rec)
    if #counting == 0 then
      new = old -- the last window ran out while an upgrade is in flight: all stays as it was
    else
      local status, info = status_of(counting), old[S_INFO]
      for _, c in ipairs(counting) do if c[INFO] then info = c[INFO] end end
      if status == 'f' then
        rec[HIDDEN] = rec[HIDDEN] or S.now
        new, hidden = { 'f', old[VERSION], old[CHANGED], rec[HIDDEN], info, false }, true
      else
        rec[HIDDEN] = false
        new = { status, old[VERSION], old[CHANGED], false, info, meta_of(counting) }
      end
    end
  end
  local alike = new[STATUS] == old[STATUS] and new[SEEN] == old[SEEN] and new[S_INFO] == old[S_INFO]
    and same(new[S_META], old[S_META])
  local before = S.seq
  if not (new[STATUS] == 'f' and old[STATUS] == 'f') and (again or not alike) then
    new[VERSION], new[CHANGED] = next_version(S), S.now
    rec[SHOWN_AS] = new
    local change = new[STATUS] == 'f' and 'F' or (old[STATUS] == 'f' and 'N' or 'U')
    transition(S, user, change, new[VERSION], hidden and 'invisible' or cause, new, false, false,
      active_count(rec))
  end
  publish_rooms(S, user, rec, cause, again)
  if S.seq > before then rec[EPOCH] = S.epoch end
end
