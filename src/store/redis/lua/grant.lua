-- A turn for who asks, at once where nobody has it and nobody waits. Turns (Q4) are told in lua/turn.lua.
-- In: res, token, instance, name, now, held, waits, version, lease.
-- Out: { 1, { 0, fence, first number, version, and of a lease stamp, left, value } } granted; { 1, { 1 } } busy;
-- { 1, { 2, rest } } rests.
local fence
if held and sub(held, 1, 8) == token then
  -- The reply was lost: it is the same turn.
  fence = tonumber(sub(held, 17, 32))
  call('DEL', p .. '-')
elseif not held and not waits then
  fence = call('INCRBY', p .. 'counter', 3) - 2
  call('SET', p .. 't:' .. res, token .. instance .. string.format('%016.0f', fence) .. name)
  call('SADD', p .. 'it:' .. instance, res)
end
if fence and not lease and tonumber(version or '0') then
  return { 1, { 0, fence, fence + 1, tonumber(version or '0') } }
end
