-- Ends the turns of a lapsed instance, but those of what is forwarded and not settled; forgets it once nothing is
-- left. instance
as_primary()
local dead = ARGV[3]
if lives(dead) then return 0 end
-- What is left should be little by now; where it is not, nothing is known of the turns.
if call('SCARD', p .. 'i:' .. dead) > 1000 then return 0 end
local out = {}
for _, id in ipairs(call('SRANDMEMBER', p .. 'i:' .. dead, 1000)) do
  local value = call('GET', p .. 'r:' .. id)
  if value and phase(value) == 'F' then out[owner(value)] = true end
end
for _, res in ipairs(call('SRANDMEMBER', p .. 'it:' .. dead, 10000)) do
  local stands = call('MGET', p .. 't:' .. res, p .. 'w:' .. res)
  local held, waits = stands[1], stands[2]
  if not held or sub(held, 9, 16) ~= dead then
    call('SREM', p .. 'it:' .. dead, res)
  elseif not out[sub(held, 1, 8)] then
    call('DEL', p .. 't:' .. res)
    call('SREM', p .. 'it:' .. dead, res)
    if waits then pass_on(res, waits) end
  end
end
if call('EXISTS', p .. 'i:' .. dead, p .. 'it:' .. dead) == 0 then
  call('ZREM', p .. 'alive', dead)
end
return 1
