-- How many records are unknown.
as_primary()
return redis.call('ZCARD', p .. 'unknown')
