-- Cells. c:KIND NAME is a stamp of 8 bytes, the time when somebody has to look at it in 16 digits of milliseconds by
-- the server's clock, 0 for never, and a value; k:KIND has the names by their time.
-- In: puts, the number of the first argument of the first swap: kind and name, stamp that must stand, stamp that stands
-- then, in how long, value, topic. Out: fit, 0 other content stands in one of them, 1 they are to be swapped, 2 they
-- were, nil there are none; swap, which does it and tells.
local fit, swap
if ARGV[puts] then
  fit = 2
  local first, has_time
  for at = puts, #ARGV, 6 do
    local cell = call('GET', p .. 'c:' .. ARGV[at])
    local stamp = cell and sub(cell, 1, 8) or ''
    if stamp ~= ARGV[at + 2] then
      fit = stamp == ARGV[at + 1] and math.min(fit, 1) or 0
    end
    if ARGV[at + 1] == '' and ARGV[at + 2] ~= '' then first = at end
    has_time = has_time or ARGV[at + 3] ~= ''
  end

  local clock = 0
  local function put(at)
    local name, stamp, left = ARGV[at], ARGV[at + 2], ARGV[at + 3]
    local key, times = p .. 'c:' .. name, p .. 'k:' .. sub(name, 1, 1)
    if stamp == '' then
      call('DEL', key)
      call('ZREM', times, sub(name, 2))
      return
    end
    local due = left == '' and 0 or clock + tonumber(left)
    call('SET', key, stamp .. string.format('%016.0f', due) .. ARGV[at + 4])
    call('ZADD', times, due == 0 and '+inf' or due, sub(name, 2))
  end

  swap = function()
    if has_time then
      local time = call('TIME')
      clock = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    -- A full Redis refuses it whole where something begins by it, and nothing of what goes on or ends.
    if first then put(first) else call('DEL', p .. '-') end
    local told = { [''] = true }
    for at = puts, #ARGV, 6 do
      if at ~= first then put(at) end
      if not told[ARGV[at + 5]] then call('PUBLISH', p .. 'told', ARGV[at + 5]) end
      told[ARGV[at + 5]] = true
    end
  end
end
