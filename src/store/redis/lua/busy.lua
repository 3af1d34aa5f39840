-- Resources with something going on: name, in flight, rest. most
as_primary()
local found, met, now, most = {}, {}, clock(), tonumber(ARGV[3])
local function look(res)
  if met[res] or #found >= most then return end
  met[res] = true
  local stands = call('MGET', p .. 't:' .. res, p .. 'w:' .. res)
  local held, waits = stands[1], stands[2]
  local rest = waits and math.max(tonumber(sub(waits, 1, 16)) - now, 0) or 0
  if held or rest > 0 or call('EXISTS', p .. 'l:' .. res) == 1 then
    found[#found + 1] = { held and sub(held, 33) or sub(waits or '', 41), held and 1 or 0, rest }
  end
end
for _, instance in ipairs(call('ZRANGE', p .. 'alive', 0, 999)) do
  for _, res in ipairs(call('SRANDMEMBER', p .. 'it:' .. instance, most)) do look(res) end
end
for _, res in ipairs(call('SRANDMEMBER', p .. 'busy', most)) do look(res) end
return found
