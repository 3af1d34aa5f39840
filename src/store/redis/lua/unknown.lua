-- Records that are unknown, the last to be forgotten first: id, record. most
as_primary()
local found = {}
for _, id in ipairs(call('ZREVRANGE', p .. 'unknown', 0, tonumber(ARGV[3]) - 1)) do
  local value = call('GET', p .. 'r:' .. id)
  if value and phase(value) == 'U' then found[#found + 1] = { id, bare(value) } end
end
return found
