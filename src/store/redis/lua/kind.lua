-- Cells of a kind, the soonest first: name, and as in lua/cell.lua. kind, within so long or all, most, how much of the
-- values or all
as_primary()
local now, names = clock(), nil
if ARGV[4] == '' then
  names = call('ZRANGE', p .. 'k:' .. ARGV[3], 0, tonumber(ARGV[5]) - 1)
else
  local until_then = string.format('%.0f', now + tonumber(ARGV[4]))
  names = call('ZRANGEBYSCORE', p .. 'k:' .. ARGV[3], '-inf', until_then, 'LIMIT', 0, ARGV[5])
end
local found, last = {}, ARGV[6] == '' and -1 or 23 + tonumber(ARGV[6])
for _, name in ipairs(names) do
  local cell = call('GETRANGE', p .. 'c:' .. ARGV[3] .. name, 0, last)
  if cell ~= '' then
    local due = tonumber(sub(cell, 9, 24))
    found[#found + 1] = { name, sub(cell, 1, 8), due == 0 and -1 or math.max(due - now, 0), sub(cell, 25) }
  end
end
return found
