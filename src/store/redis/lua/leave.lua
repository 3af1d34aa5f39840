-- An instance has nobody left in a line. resource, instance
as_primary()
local res, instance = ARGV[3], ARGV[4]
call('LREM', p .. 'l:' .. res, 0, instance)
local waits = call('GET', p .. 'w:' .. res)
if not waits or call('EXISTS', p .. 't:' .. res) == 1 then return 1 end
local rest, offered, ends, name = read(waits)
if offered == instance then
  keep(res, rest, NOBODY, 0, name)
  waits = call('GET', p .. 'w:' .. res)
end
pass_on(res, waits)
return 1
