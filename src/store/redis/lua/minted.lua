-- Where a minted version stands. now, resource
as_primary()
local version = call('GET', p .. 'v:' .. ARGV[4])
if not version or tonumber(version) then return tonumber(version or '0') end
local at, later_at, later = string.match(version, '^(%d+) (%d+) (%d+)$')
return tonumber(later_at) <= tonumber(ARGV[3]) and tonumber(later) or tonumber(at)
