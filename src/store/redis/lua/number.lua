-- The first of `many` numbers above all that were ever given (L3, V8). They follow the server's clock, so that they
-- grow even where the end of the last history was lost.
local function number(many)
  local time = redis.call('TIME')
  local last = tonumber(redis.call('HGET', p .. 'meta', 'counter') or '0')
  local first = math.max(last + 1, time[1] * 1000000 + time[2])
  redis.call('HSET', p .. 'meta', 'counter', string.format('%.0f', first + many - 1))
  return first
end
