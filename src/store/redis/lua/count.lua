-- How many records are unknown.
as_primary()
return call('ZCARD', p .. 'unknown')
