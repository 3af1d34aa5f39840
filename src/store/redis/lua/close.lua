-- An instance ends by itself. instance
as_primary()
if redis.call('ZSCORE', p .. 'alive', ARGV[3]) then redis.call('ZADD', p .. 'alive', clock() - 1, ARGV[3]) end
return 1
