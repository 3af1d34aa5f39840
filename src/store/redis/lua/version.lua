-- Minted versions (V8): v:RESOURCE is a number, and where a second move is still to come when, and where to. They stay
-- for good, since a tag of theirs may be held for as long.
local function version(of)
  local value = redis.call('GET', p .. 'v:' .. of)
  if not value then return 0, 0, 0 end
  local at, later_at, later = string.match(value, '^(%d+) ?(%d*) ?(%d*)$')
  return tonumber(at), tonumber(later_at) or 0, tonumber(later) or 0
end

local function version_at(of, now)
  local at, later_at, later = version(of)
  if later_at > 0 and later_at <= now then return later end
  return at
end

-- Moves it, and never back. `later_at`: when it moves again, 0 for never.
local function move(of, now, to, later_at, later, ends_rest)
  local at, old_at, old = version(of)
  if old_at > 0 and old_at <= now then at = old end
  at = math.max(at, to)
  if old_at > now and not ends_rest then
    later_at, later = math.max(later_at, old_at), math.max(later, old)
  end
  local value = string.format('%.0f', at)
  if later_at > 0 then
    -- Numbers are given in another order than they are due, and none goes back.
    if later < at then later = number(1) end
    value = string.format('%.0f %.0f %.0f', at, later_at, later)
  end
  redis.call('SET', p .. 'v:' .. of, value)
end
