-- Claims a key, and with five more arguments asks for a turn.
-- id, now, instance, value; resource, token, name
local id, now, instance, value = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local standing = redis.call('GET', p .. 'r:' .. id)
local is_mine = standing and owner(standing) == owner(value) and RUNS[phase(standing)]
if standing and not is_mine and not is_expired(standing, now) then
  as_primary()
  return { 0, standing }
end
if not lives(instance) then return lapsed_myself() end
if is_mine then
  done_before()
else
  -- The first write, so that a full Redis refuses it whole.
  redis.call('SET', p .. 'r:' .. id, value)
  if standing then unindex(id, standing) end
  index(id, nil, value)
  if phase(value) == 'F' then follow(id, value) end
end
if not ARGV[7] then return { 1 } end
return { 1, take(ARGV[7], ARGV[8], instance, ARGV[9], now) }
