-- One batch of a process: everything that its calls take and give back, at once or not at all.
-- The arithmetic is that of rules.py; batch.py writes the batch and reads the reply.
--
-- KEYS  1: the processes; 2: this process's last batch; then for each scope its levels (a string)
--       and its slots (a sorted set)
-- ARGV  1: the batch in MessagePack
--   {number, not after, scopes, moves, holds, takes, beat}
--   scope {figures, concurrency or 0, the state last seen or 0}   state {at, levels}
--   move  {scope, requests, tokens, slots that ended}
--   hold  {scope, seconds, slots that go on}
--   take  {scopes, tokens, slot, seconds}
--   beat  {owner, seconds or 0 to leave}, or 0
-- reply {now, processes, {{levels, slots in use}, ...}, {1 or 0 for each take}}

local PERIODS_S = {60, 86400, 60, 86400}
local ROUNDING = 0.000001
local SLOTS_MS = 60000      -- longer than any slot's lease
local LAST_MS = 600000

local number, not_after, scopes, moves, holds, takes, beat = unpack(cmsgpack.unpack(ARGV[1]))
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

-- Whoever sent this has given up on it, and has gone on without us.
if not_after > 0 and now > not_after then
  return redis.error_reply('LATE this batch was left unread for too long')
end

if beat ~= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  if beat[2] > 0 then
    redis.call('ZADD', KEYS[1], now + beat[2], beat[1])
    redis.call('PEXPIRE', KEYS[1], SLOTS_MS)
  else
    redis.call('ZREM', KEYS[1], beat[1])
  end
end
local processes = redis.call('ZCARD', KEYS[1])

for i, scope in ipairs(scopes) do
  local figures, concurrency, seen = scope[1], scope[2], scope[3]
  scope.figures, scope.concurrency, scope.levels, scope.used = figures, concurrency, {}, 0
  scope.levels_key, scope.slots_key = KEYS[2 * i + 1], KEYS[2 * i + 2]
  scope.limited = figures[1] + figures[2] + figures[3] + figures[4] > 0
  local state = 0
  if scope.limited then
    local stored = redis.call('GET', scope.levels_key)
    if stored then
      state = cmsgpack.unpack(stored)
    elseif seen ~= 0 then
      state, scope.changed = seen, true       -- Redis was emptied; the caller was not
    end
  end
  for d = 1, 4 do
    if figures[d] == 0 then
      scope.levels[d] = math.huge
    elseif state == 0 then
      scope.levels[d] = figures[d]
    else
      local elapsed = math.max(0, now - state[1])
      scope.levels[d] = math.min(figures[d], state[2][d] + elapsed * figures[d] / PERIODS_S[d])
    end
  end
end

local function move(scope, requests, tokens)
  for d = 1, 4 do
    local change = d <= 2 and requests or tokens
    if scope.figures[d] > 0 then
      scope.levels[d] = math.min(scope.figures[d], scope.levels[d] + change)
    end
  end
  scope.changed = scope.changed or (scope.limited and (requests ~= 0 or tokens ~= 0))
end

local function hold(scope, slot, seconds)
  local adds = scope.adds
  if adds then
    adds[#adds + 1] = now + seconds
    adds[#adds + 1] = slot
  else
    scope.used = scope.used + redis.call('ZADD', scope.slots_key, now + seconds, slot)
  end
  scope.held = true
end

local function fits(scope, tokens)
  for d = 1, 4 do
    local asked = d <= 2 and 1 or tokens
    if scope.figures[d] > 0 and scope.levels[d] + ROUNDING < math.min(asked, scope.figures[d]) then
      return false
    end
  end
  return scope.concurrency == 0 or scope.used < scope.concurrency
end

local function all_fit(wanted, tokens)
  for _, i in ipairs(wanted) do
    if not fits(scopes[i], tokens) then return false end
  end
  return true
end

for _, moved in ipairs(moves) do
  local scope = scopes[moved[1]]
  move(scope, moved[2], moved[3])
  if #moved[4] > 0 then redis.call('ZREM', scope.slots_key, unpack(moved[4])) end
end

for _, scope in ipairs(scopes) do
  if scope.concurrency > 0 then
    redis.call('ZREMRANGEBYSCORE', scope.slots_key, '-inf', now)
    scope.used = redis.call('ZCARD', scope.slots_key)
  end
end

for _, held in ipairs(holds) do
  for _, slot in ipairs(held[3]) do hold(scopes[held[1]], slot, held[2]) end
end

-- A scope with room for all who ask adds their slots with one command, for none of them is refused
-- because of the others.
for _, take in ipairs(takes) do
  for _, i in ipairs(take[1]) do scopes[i].asked = (scopes[i].asked or 0) + 1 end
end
for _, scope in ipairs(scopes) do
  if scope.asked and scope.used + scope.asked <= scope.concurrency then scope.adds = {} end
end

local verdicts = {}
for t, take in ipairs(takes) do
  local admitted = all_fit(take[1], take[2])
  if admitted then
    for _, i in ipairs(take[1]) do
      move(scopes[i], -1, -take[2])
      if scopes[i].concurrency > 0 then hold(scopes[i], take[3], take[4]) end
    end
  end
  verdicts[t] = admitted and 1 or 0
end

local states = {}
for i, scope in ipairs(scopes) do
  if scope.adds and #scope.adds > 0 then
    scope.used = scope.used + redis.call('ZADD', scope.slots_key, unpack(scope.adds))
  end
  states[i] = {scope.levels, scope.used}
  if scope.held then redis.call('PEXPIRE', scope.slots_key, SLOTS_MS) end
  if scope.changed then
    local full_s = 1
    for d = 1, 4 do
      if scope.figures[d] > 0 then
        local short = scope.figures[d] - scope.levels[d]
        full_s = math.max(full_s, 1 + short * PERIODS_S[d] / scope.figures[d])
      end
    end
    -- A bucket that is full again says nothing: its key may go.
    redis.call('SET', scope.levels_key, cmsgpack.pack({now, scope.levels}), 'PX', math.ceil(full_s * 1000))
  end
end
-- For a sender that never hears of it.
redis.call('SET', KEYS[2], cmsgpack.pack({number, verdicts}), 'PX', LAST_MS)
return cmsgpack.pack({now, processes, states, verdicts})
