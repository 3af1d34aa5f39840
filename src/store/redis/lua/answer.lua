-- A done record, with its answer. id
as_primary()
local value = redis.call('GET', p .. 'r:' .. ARGV[3])
if not value or phase(value) ~= 'D' then return false end
return value
