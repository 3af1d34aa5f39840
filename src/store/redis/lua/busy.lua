-- Resources with something going on: name, in flight, rest. most
as_primary()
local found, now = {}, clock()
for _, res in ipairs(redis.call('SRANDMEMBER', p .. 'busy', ARGV[3])) do
  forget_idle(res)
  local stands = redis.call('HMGET', p .. 't:' .. res, 'name', 'token', 'rest')
  if stands[1] then
    found[#found + 1] = { stands[1], stands[2] and 1 or 0, math.max(tonumber(stands[3] or '0') - now, 0) }
  else
    redis.call('SREM', p .. 'busy', res)
  end
end
return found
