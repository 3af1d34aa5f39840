-- An operator ended a rest. resource
as_primary()
local res = ARGV[3]
local waits = call('GET', p .. 'w:' .. res)
if not waits or call('EXISTS', p .. 't:' .. res) == 1 then return 1 end
local _, offered, ends, name = read(waits)
keep(res, 0, offered, ends, name)
pass_on(res, call('GET', p .. 'w:' .. res))
return 1
