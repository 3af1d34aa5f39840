-- Ends the turns of a lapsed instance, but those of what is forwarded and not settled; forgets it once nothing is
-- left. instance
as_primary()
local dead = ARGV[3]
if lives(dead) then return 0 end
-- What is left should be little by now; where it is not, nothing is known of the turns.
if redis.call('SCARD', p .. 'i:' .. dead) > 1000 then return 0 end
local out = {}
for _, id in ipairs(redis.call('SRANDMEMBER', p .. 'i:' .. dead, 1000)) do
  local value = redis.call('GET', p .. 'r:' .. id)
  if value and phase(value) == 'F' then out[owner(value)] = true end
end
for _, res in ipairs(redis.call('SRANDMEMBER', p .. 'it:' .. dead, 10000)) do
  local held = redis.call('HMGET', p .. 't:' .. res, 'token', 'instance')
  if held[2] ~= dead then
    redis.call('SREM', p .. 'it:' .. dead, res)
  elseif not out[held[1]] then
    end_turn(res, held[1], 0)
  end
end
if redis.call('EXISTS', p .. 'i:' .. dead, p .. 'it:' .. dead) == 0 then
  redis.call('ZREM', p .. 'alive', dead)
end
return 1
