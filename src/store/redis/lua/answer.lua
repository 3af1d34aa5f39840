-- A done record, with its answer. id
as_primary()
local value = call('GET', p .. 'r:' .. ARGV[3])
if not value or sub(value, 2, 2) ~= 'D' then return false end
return value
