-- The number of the last event.
as_primary()
return tonumber(call('GET', p .. 'eb') or '0') + call('LLEN', p .. 'ev')
