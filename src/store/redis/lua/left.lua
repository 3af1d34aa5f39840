-- What an instance left running: id, record. instance, most
as_primary()
local found = {}
local key = p .. 'i:' .. ARGV[3]
for _, id in ipairs(call('SRANDMEMBER', key, ARGV[4])) do
  local value = call('GET', p .. 'r:' .. id)
  if runs_on(value, ARGV[3]) then
    found[#found + 1] = { id, bare(value) }
  else
    call('SREM', key, id)
  end
end
return found
