-- Records. A value is a head of fixed width, what of a record stays as it is, its state, and its kept answer:
--   1 format  2 phase  3 mark: none, -, followed  4 watched  5-12 owner  13-20 instance  21-36 resource
--   37-44 expires at  45-48 length of what stays  49-52 length of the state
-- i:INSTANCE holds what runs there, `unknown` what is unknown, by its time, and u:RESOURCE what is unsettled and was
-- not followed (K12).
local RUNS = { C = true, F = true }

local function phase(value) return string.sub(value, 2, 2) end
local function mark(value) return string.sub(value, 3, 3) end
local function owner(value) return string.sub(value, 5, 12) end
local function holder(value) return string.sub(value, 13, 20) end
local function resource(value) return string.sub(value, 21, 36) end

local function expires(value)
  local high, low = struct.unpack('>I4I4', value, 37)
  return high * 4294967296 + low
end

local function is_expired(value, now)
  local at = expires(value)
  return at ~= 0 and at <= now
end

-- Where what stays ends, and where the state ends.
local function lengths(value)
  local stays, state = struct.unpack('>I4I4', value, 45)
  return 52 + stays, 52 + stays + state
end

-- Without the answer.
local function bare(value)
  local _, ends = lengths(value)
  return string.sub(value, 1, ends)
end

local function runs_on(value, instance)
  return value and RUNS[phase(value)] and holder(value) == instance
end

-- Takes a record out of what finds it, before it becomes another or none.
local function unindex(id, was, is)
  local old = phase(was)
  if RUNS[old] and not runs_on(is, holder(was)) then
    redis.call('SREM', p .. 'i:' .. holder(was), id)
  end
  if old == 'U' and not (is and phase(is) == 'U') then
    redis.call('ZREM', p .. 'unknown', id)
  end
  if (old == 'U' or old == 'F') and mark(was) == '-' then
    local unsettled = is and (phase(is) == 'U' or phase(is) == 'F') and mark(is) == '-'
    if not unsettled then
      redis.call('SREM', p .. 'u:' .. resource(was), id)
    end
  end
end

-- Puts a record where it is found. `life`: for so many milliseconds it may be unknown.
local function index(id, was, is, life)
  local new = phase(is)
  if RUNS[new] and not runs_on(was, holder(is)) then
    redis.call('SADD', p .. 'i:' .. holder(is), id)
  end
  if new == 'U' then
    redis.call('ZADD', p .. 'unknown', expires(is), id)
    if mark(is) == '-' then
      local key = p .. 'u:' .. resource(is)
      redis.call('SADD', key, id)
      if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
    end
  end
end

-- A write goes out: what else is unsettled of its resource is not the last write any more (K12). Once is enough.
local function follow(id, value)
  local key = p .. 'u:' .. resource(value)
  for _, other in ipairs(redis.call('SMEMBERS', key)) do
    if other ~= id then
      local standing = redis.call('GET', p .. 'r:' .. other)
      if standing and mark(standing) == '-' and (phase(standing) == 'U' or phase(standing) == 'F') then
        redis.call('SETRANGE', p .. 'r:' .. other, 2, 'f')
      end
      redis.call('SREM', key, other)
    end
  end
end
