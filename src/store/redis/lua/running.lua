-- Records that are claimed, forwarded or queued: id, record. phases, most; of a job its cell tells, see lua/cells.lua
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
if string.find(ARGV[3], 'Q', 1, true) then
  for _, name in ipairs(call('ZRANGE', p .. 'k:\4', 0, 9999)) do
    local id = string.gsub(name, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
    local value = #found < most and call('GET', p .. 'r:' .. id)
    if value and phase(value) == 'Q' then found[#found + 1] = { id, bare(value) } end
  end
end
return found
