-- Records that are claimed or forwarded: id, record. phase, most
as_primary()
local found, most = {}, tonumber(ARGV[4])
for _, instance in ipairs(call('ZRANGE', p .. 'alive', 0, 999)) do
  for _, id in ipairs(call('SRANDMEMBER', p .. 'i:' .. instance, 2 * most)) do
    local value = call('GET', p .. 'r:' .. id)
    if #found < most and value and RUNS[phase(value)] and string.find(ARGV[3], phase(value), 1, true) then
      found[#found + 1] = { id, bare(value) }
    end
  end
end
return found
