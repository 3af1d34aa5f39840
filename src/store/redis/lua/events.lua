-- Events behind a number, or nothing where what follows it is not held. number, most
as_primary()
local before, many = tonumber(call('GET', p .. 'eb') or '0'), call('LLEN', p .. 'ev')
local skip, most = tonumber(ARGV[3]) - before, tonumber(ARGV[4])
if skip < 0 or skip > many then return false end
-- Who has read to the end is woken by the next one.
if skip + most >= many then call('SET', p .. 'ew', '') end
if most == 0 then return {} end
return call('LRANGE', p .. 'ev', skip, skip + most - 1)
