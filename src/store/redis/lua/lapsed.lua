-- Instances whose time is over, and for how long; who left nothing is forgotten.
as_primary()
local found, now = {}, clock()
local over = call('ZRANGEBYSCORE', p .. 'alive', '-inf', now, 'WITHSCORES', 'LIMIT', 0, 100)
for at = 1, #over, 2 do
  if call('EXISTS', p .. 'i:' .. over[at], p .. 'it:' .. over[at]) > 0 then
    found[#found + 1] = { over[at], now - tonumber(over[at + 1]) }
  else
    call('ZREM', p .. 'alive', over[at])
  end
end
return found
