-- A record without its answer; the caller judges its time. id, whether its end is to be told, now
as_primary()
local key = p .. 'r:' .. ARGV[3]
local value = redis.call('GET', key)
if not value then return false end
if ARGV[4] == '1' and RUNS[phase(value)] then redis.call('SETRANGE', key, 3, 'w') end
return bare(value)
