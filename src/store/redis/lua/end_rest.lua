-- An operator ended a rest. resource
redis.call('HDEL', p .. 't:' .. ARGV[3], 'rest')
pass_on(ARGV[3])
return 1
