-- What stands in a cell: stamp, how long until its time, -1 for never, value. kind and name
as_primary()
local cell = call('GET', p .. 'c:' .. ARGV[3])
if not cell then return false end
local due = tonumber(sub(cell, 9, 24))
return { sub(cell, 1, 8), due == 0 and -1 or math.max(due - clock(), 0), sub(cell, 25) }
