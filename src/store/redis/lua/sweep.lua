-- Forgets a little of what is over, beside what Redis itself forgets. now
as_primary()
local now = tonumber(ARGV[3])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'unknown', '-inf', now, 'LIMIT', 0, 100)) do
  local value = redis.call('GET', p .. 'r:' .. id)
  if value and phase(value) == 'U' and is_expired(value, now) then
    redis.call('DEL', p .. 'r:' .. id)
    unindex(id, value)
  elseif not value then
    redis.call('ZREM', p .. 'unknown', id)
  end
end
for _, res in ipairs(redis.call('SRANDMEMBER', p .. 'busy', 20)) do
  forget_idle(res)
end
return 1
