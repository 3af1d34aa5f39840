-- Forgets a little of what is over, beside what Redis itself forgets. now; of events how many are kept, and since when
as_primary()
local now, most = tonumber(ARGV[3]), 1000
for _, id in ipairs(call('ZRANGEBYSCORE', p .. 'unknown', '-inf', now, 'LIMIT', 0, 100)) do
  local value = call('GET', p .. 'r:' .. id)
  if value and phase(value) == 'U' then
    call('DEL', p .. 'r:' .. id)
    if sub(value, 3, 3) == 'u' then
      local list = p .. 'u:' .. sub(value, 21, 36)
      local left = string.gsub(call('GET', list) or '', id .. ' ', '')
      if left == '' then call('DEL', list) else call('SET', list, left, 'KEEPTTL') end
    end
  end
  call('ZREM', p .. 'unknown', id)
end
local clock = clock()
for _, res in ipairs(call('SRANDMEMBER', p .. 'busy', 20)) do
  local waits = call('GET', p .. 'w:' .. res)
  local rests = waits and tonumber(sub(waits, 1, 16)) > clock
  if not rests and call('EXISTS', p .. 't:' .. res, p .. 'l:' .. res) == 0 then
    call('DEL', p .. 'w:' .. res)
    call('SREM', p .. 'busy', res)
  end
end
-- The log of events is lua/event.lua's.
local gone = math.max(call('LLEN', p .. 'ev') - tonumber(ARGV[4]), 0)
while gone < most do
  local first = call('LINDEX', p .. 'ev', gone)
  if not first then break end
  local high, low = struct.unpack('>I4I4', first, 1)
  if high * 4294967296 + low >= tonumber(ARGV[5]) then break end
  gone = gone + 1
end
if gone > 0 then
  call('LTRIM', p .. 'ev', gone, -1)
  call('INCRBY', p .. 'eb', gone)
end
return 1
