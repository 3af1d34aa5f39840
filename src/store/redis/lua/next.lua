-- A number above all that were ever given (L3, V8). They begin at the server's clock (lua/hello.lua) and grow more
-- slowly, so that they grow also over the lost end of a history.
return call('INCR', p .. 'counter')
