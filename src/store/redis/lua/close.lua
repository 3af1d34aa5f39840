-- An instance ends by itself. instance
as_primary()
call('DEL', p .. 'a:' .. ARGV[3])
if call('ZSCORE', p .. 'alive', ARGV[3]) then call('ZADD', p .. 'alive', clock() - 1, ARGV[3]) end
return 1
