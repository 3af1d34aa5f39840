-- What operators decided about an operation. id
as_primary()
return call('LRANGE', p .. 'o:' .. ARGV[3], 0, -1)
