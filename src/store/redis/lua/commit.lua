-- One step of a record, with all that goes with it.
-- id, now, owner, before (C, F, R either, U), set (S state, R replace, X remove), instance,
-- S: phase and mark, time of expiry, state; R: the value; then the answer, for how long it is kept,
-- whether a write goes out, version: resource, to, when later, where to later, whether it ends the rest;
-- turn: resource, token, rest; resolution, for how long it is kept
local id, now, mine, before, set, instance = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local head, expiry, given, answer, life = ARGV[9], ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13])
local key = p .. 'r:' .. id
local standing = redis.call('GET', key)

local function fits(at)
  if before == 'R' then return RUNS[at] end
  return before == at or (before == 'F' and at == 'U' and (set ~= 'S' or string.sub(head, 1, 1) == 'D'))
end

local function verdict()
  if not standing then return set == 'X' and 2 or 0 end
  local at = phase(standing)
  if owner(standing) == mine and fits(at) then return 1 end
  if set == 'S' and owner(standing) == mine and at == string.sub(head, 1, 1) then return 2 end
  if set == 'R' and owner(standing) == owner(given) then return 2 end
  return 0
end

-- What the record becomes.
local function becomes()
  local value = given
  if set == 'S' then
    local stays = lengths(standing)
    value = '1' .. head .. '-' .. string.sub(standing, 5, 36) .. expiry .. string.sub(standing, 45, 48)
      .. struct.pack('>I4', #given) .. string.sub(standing, 53, stays) .. given .. answer
  end
  local marked = mark(value)
  -- That another write has gone to the resource is not forgotten, whatever the record becomes (K12).
  if marked == '-' and mark(standing) == 'f' then marked = 'f' end
  local watched = RUNS[phase(value)] and string.sub(standing, 4, 4) or '-'
  return string.sub(value, 1, 2) .. marked .. watched .. string.sub(value, 5)
end

local function apply()
  local value = set ~= 'X' and becomes() or nil
  unindex(id, standing, value)
  if not value then
    redis.call('DEL', key)
  elseif life > 0 then
    redis.call('SET', key, value, 'PX', life)
  else
    redis.call('SET', key, value)
  end
  if value then index(id, standing, value, life) end
  if value and ARGV[14] == '1' then follow(id, value) end
  if ARGV[15] ~= '' then
    move(ARGV[15], now, tonumber(ARGV[16]), tonumber(ARGV[17]), tonumber(ARGV[18]), ARGV[19] == '1')
  end
  if ARGV[23] ~= '' then
    local words = p .. 'o:' .. id
    redis.call('LPUSH', words, ARGV[23])
    redis.call('LTRIM', words, 0, 99)
    if redis.call('PTTL', words) < tonumber(ARGV[24]) then redis.call('PEXPIRE', words, ARGV[24]) end
  end
  if string.sub(standing, 4, 4) == 'w' and not (value and RUNS[phase(value)]) then
    redis.call('PUBLISH', p .. 'ended', id)
  end
  return value
end

local done, value = verdict(), nil
if done == 1 and set == 'R' and RUNS[phase(given)] and not lives(instance) then return lapsed_myself() end
if done == 1 then value = apply() end
if ARGV[20] ~= '' then
  as_primary()
  end_turn(ARGV[20], ARGV[21], tonumber(ARGV[22]))
end
if done ~= 1 then as_primary() end
if done == 2 then done_before() end
if value and phase(value) == 'D' then return { done, bare(value) } end
return { done }
