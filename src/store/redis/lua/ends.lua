-- Ends a turn, at once where nobody waits. In: res, token, rest, held, waits, reply.
if res == '' or not held or sub(held, 1, 8) ~= token then return reply end
call('DEL', p .. 't:' .. res)
call('SREM', p .. 'it:' .. sub(held, 9, 16), res)
if not waits and rest == 0 then return reply end
