-- An instance has nobody left in a line. resource, instance
as_primary()
local key = p .. 't:' .. ARGV[3]
redis.call('LREM', p .. 'l:' .. ARGV[3], 0, ARGV[4])
if redis.call('HGET', key, 'offer') == ARGV[4] then redis.call('HDEL', key, 'offer', 'until') end
pass_on(ARGV[3])
return 1
